"""Settings that hold for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tools.errors import ToolsError
from tools.openarena import fetch_maps

# A first call compiles kernels, so no deadline; a failure prints the blob that repeats it.
settings.register_profile("hitreg", deadline=None, print_blob=True)
settings.load_profile("hitreg")

# No test, and no server that one starts, records into the home directory; who tests recordings names a directory.
os.environ["HITREG_RECORD_DIR"] = ""


@pytest.fixture(scope="session")
def openarena() -> Path:
    """The directory with the OpenArena maps; where they cannot be had, CI fails and other runs skip and say why."""
    try:
        return fetch_maps()
    except ToolsError as error:
        if os.environ.get("CI"):
            pytest.fail(f"the OpenArena maps are required in CI: {error}")
        pytest.skip(str(error))
