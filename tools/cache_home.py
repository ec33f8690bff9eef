"""Whether there is a place for compiled kernels, found out before the first module that needs it is imported.

Modules with kernels make their cache directories as they are imported (`sim.jit`), where nobody could turn a full disk
or a wrong path into one line. So `tools` asks here first, and this imports nothing of the project.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["cache_problem", "require_cache"]

VARIABLE = "HITREG_CACHE_DIR"
REMEDY = f"set {VARIABLE} to a directory that can be written"


def cache_problem(environment: Mapping[str, str]) -> str | None:
    """Why no kernels can be kept, in one line that names the variable and the path; None where they can.

    Args:
        environment: Variables of the environment, for `HITREG_CACHE_DIR`; without it `~/.cache/hitreg` is meant.
    """
    given = environment.get(VARIABLE)
    try:
        root = Path(given) if given else Path.home() / ".cache" / "hitreg"
    except RuntimeError:
        return f"{VARIABLE} is not set, and this user has no home directory: {REMEDY}"
    kernels = root / "kernels"
    named = f"{VARIABLE} = {given}" if given else f"the cache {root} ({VARIABLE} is not set)"
    try:
        kernels.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{named}: cannot be made: {error.strerror or error}; {REMEDY}"
    except ValueError as error:  # a NUL byte
        return f"{named!r}: is no path: {error}; {REMEDY}"
    if not os.access(kernels, os.W_OK | os.X_OK):
        return f"{named}: {kernels} cannot be written; {REMEDY}"
    return None


def require_cache() -> None:
    """End this process with one line on stderr and code 2 where no kernels can be kept."""
    problem = cache_problem(os.environ)
    if problem is not None:
        sys.stderr.write(f"hitreg: {problem}\n")
        raise SystemExit(2)
