"""Questions in, answers out: which ancestors of a model saw what, by which channel, and how sure that is."""
