"""Settings that hold for all tests."""

from hypothesis import settings

# A first call compiles kernels, so no deadline; a failure prints the blob that repeats it.
settings.register_profile("hitreg", deadline=None, print_blob=True)
settings.load_profile("hitreg")
