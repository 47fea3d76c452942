"""The steps of a scan as functions over stored blocks: evidence, copies, candidates, measures, decisions, log."""
