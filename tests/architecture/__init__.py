"""Rules on the source itself: layers, sizes, names, what is shipped."""
