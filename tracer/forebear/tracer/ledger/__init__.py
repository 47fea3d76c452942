"""Bytes in, digest out: objects named by SHA-256, an append-only list of entries, and a head over them.

Always true here: nothing is overwritten, a commit is all or nothing, and bytes are hashed before they are believed.
"""
