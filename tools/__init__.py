"""The command line, bots and benchmarks. None of it works without a place for compiled kernels: that is asked first."""

from tools.cache_home import require_cache

__all__ = ["require_cache"]

require_cache()
