"""Records of models: what they came from, how the rules read it, and the graph that an answer walks."""
