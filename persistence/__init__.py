"""Stores, recordings and the writer that keeps them off the tick."""
