"""Lossless delta codecs of rigid bodies: what the state codec is chosen with (docs/adr/0007-state-codec.md)."""
