"""Static worlds from real files: import, cache, pictures."""
