"""Lineage that others wrote down: model cards, catalogues, run events. One module a kind, listed in `kinds.KINDS`."""
