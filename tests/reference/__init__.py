"""Naive twins: the slow, obviously right version of every kernel."""
