"""Text in, clusters out: shingles, signatures, bands, similarity, leaders, and who is kept."""
