"""The command line, bots and benchmarks."""
