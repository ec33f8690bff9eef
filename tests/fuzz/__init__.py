"""Structured fuzzing: harnesses, their corpora, and short runs of them."""
