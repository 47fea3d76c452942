"""Reports for people: one self-contained HTML page about a model, or about a scan."""
