"""Corpora: bytes in, rows out, and cleaned shards back to bytes.

Always true here: what a row is depends on the bytes of its file and the reader options alone, never on chunks, batches or
threads; nothing is skipped without saying so.
"""
