"""Text in, evidence out: detectors that score a column of documents.

Always true here: a detector reads text and returns positions, scores and byte ranges, never text; equal input gives equal
output; nothing is registered by being imported.
"""
