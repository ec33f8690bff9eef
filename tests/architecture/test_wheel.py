"""What the wheel holds: everything that runs, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT, tracked

DATA_SUFFIXES = {".html", ".css", ".js", ".npy", ".npz", ".mako", ".sql", ".hrdict"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built without a network from a copy of the tracked files, as the build writes beside its sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in tracked():
        (source / path.parent).mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    command = [
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index",
        "--wheel-dir", str(target), str(source),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(target.glob("hitreg-*.whl")))


def test_it_holds_every_module_and_all_data_of_the_packages(wheel: zipfile.ZipFile) -> None:
    expected = {
        str(path)
        for path in tracked()
        if path.parts[0] in PACKAGES
        and len(path.parts) > 1
        and (path.suffix in {".py", *DATA_SUFFIXES} or path.name == "py.typed")
    }
    held = set(wheel.namelist())
    assert expected <= held
    assert {"sim/sine_table.npy", "server/edge/static/index.html", "sim/py.typed"} <= held


def test_it_holds_no_tests_docs_or_stray_packages(wheel: zipfile.ZipFile) -> None:
    tops = {Path(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.startswith("hitreg-")} == set(PACKAGES)
    names = [name for name in wheel.namelist() if not name.startswith("hitreg-")]
    assert not [name for name in names if Path(name).suffix not in {".py", ".typed", *DATA_SUFFIXES}]


def test_it_installs_the_command_and_the_arena(wheel: zipfile.ZipFile) -> None:
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry).decode()
    assert "hitreg = tools.cli:main" in text
    assert "arena = sim.games.arena:game" in text
