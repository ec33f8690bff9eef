"""Helpers are linked into kernels and are machine code nowhere else; kernels come back from the cache as they were."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.sim.linked_kernels import halved, halves, twice

ROOT = Path(__file__).parents[2]


def in_new_process(cache: Path, *lines: str) -> list[str]:
    """What a process of its own prints that runs `lines` with kernels of `linked_kernels` kept in `cache`."""
    program = "\n".join(
        (
            "import numpy as np",
            "from sim.jit import compile_declared",
            "from tests.sim.linked_kernels import halved, halves, twice",
            "made = lambda name: compile_declared('tests.sim.linked_kernels.' + name)",
            "values = np.array([2, 4, 6], np.int64)",
            *lines,
        )
    )
    environment = {**os.environ, "HITREG_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_python_may_call_a_helper_that_a_kernel_has_linked() -> None:
    assert halves(np.array([2, 4, 6], np.int64)) == 6
    assert [halved(value) for value in (0, 8, -6)] == [0, 4, -3]
    assert twice(np.array([10], np.int64)) == 10


def test_what_a_helper_raises_comes_out_of_the_kernel() -> None:
    for call in (halves, twice):
        with pytest.raises(ValueError, match="odd"):
            call(np.array([2, 3], np.int64))
    with pytest.raises(ValueError, match="odd"):
        halved(5)


def test_kernels_come_back_from_the_cache_and_can_still_be_linked(tmp_path: Path) -> None:
    """The third process finds `halves` as machine code, and its bitcode for `twice`, which nobody has compiled yet."""
    assert in_new_process(tmp_path, "print(made('halves'), halves(values))") == ["True", "6"]
    assert in_new_process(tmp_path, "print(made('halves'), halves(values), halved(8))") == ["False", "6", "4"]
    assert in_new_process(tmp_path, "print(made('twice'), twice(values), halves(values))") == ["True", "12", "6"]
    assert in_new_process(tmp_path, "print(made('twice'), made('halves'), twice(values))") == ["False", "False", "12"]
    failing = ("try: twice(values + 1)", "except ValueError as error: print(error)")
    assert in_new_process(tmp_path, "made('twice')", *failing) == ["odd"]
