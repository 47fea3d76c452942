"""Answers in, documents out: the birth certificate, and what says the same in other people's formats."""
