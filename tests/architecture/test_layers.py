"""Which package may import which, and that a broken rule would be noticed."""

import ast
import re
import subprocess
import sys
import tomllib

from tests.architecture.sources import PACKAGES, ROOT, python_files

LINT = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"


def test_the_contracts_of_import_linter_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert re.search(rf"Contracts: {len(contracts)} kept, 0 broken", done.stdout)


def _imports(text: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_only_sim_jit_imports_the_compiler_in_tests_too() -> None:
    importers = [str(path) for path, text in python_files() if _imports(text) & {"numba", "llvmlite"}]
    assert sorted(importers) == ["sim/jit.py", "sim/jit_libraries.py"]


def test_no_package_imports_the_tests() -> None:
    assert not [str(path) for path, text in python_files(tests=False) if "tests" in _imports(text)]


def test_sim_and_net_reach_no_clock_socket_or_chance() -> None:
    banned = {
        "socket",
        "select",
        "selectors",
        "asyncio",
        "time",
        "random",
        "secrets",
        "threading",
        "datetime",
    }
    found = {
        str(path): sorted(_imports(text) & banned)
        for path, text in python_files(tests=False)
        if path.parts[0] in {"sim", "net"} and _imports(text) & banned
    }
    assert set(found) <= {"net/udp.py"}


def test_only_the_composition_root_opens_the_game_socket_and_feed() -> None:
    makers = {
        str(path)
        for path, text in python_files(tests=False)
        if path.parts[0] == "server" and re.search(r"\bServerSocket\(|\bHost\(", text)
    }
    assert makers == {"server/app.py"}


def test_the_packages_are_those_of_the_wheel_and_of_the_linter() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["importlinter"]["root_packages"] == list(PACKAGES)
    assert settings["setuptools"]["packages"]["find"]["include"] == [f"{name}*" for name in PACKAGES]
