"""The separate web process: pages, tokens and live views of a match."""
