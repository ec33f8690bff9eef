"""The deterministic world: no clock, no I/O, no randomness but counter-based streams."""
