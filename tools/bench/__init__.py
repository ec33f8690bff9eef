"""Benchmarks: one module per `hitreg bench NAME`."""
