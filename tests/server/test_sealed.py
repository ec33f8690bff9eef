"""What a server does, with kernels that refuse arguments of other types than declared, as in every real start."""

import os
import subprocess
import sys
from pathlib import Path

from tests.server.played import SEALED

ROOT = Path(__file__).parents[2]


def test_a_whole_server_and_its_clients_never_need_another_specialisation() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/server/test_app.py"],
        cwd=ROOT, env={**os.environ, SEALED: "1"}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
