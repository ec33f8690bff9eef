"""The files of the project, for tests that look at the source."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("sim", "net", "persistence", "server", "tools")
GENERATED = {"build", "dist", "run", "__pycache__"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tracked() -> tuple[Path, ...]:
    """All files under version control, relative to the root; without git, all that is not hidden or generated."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        found = [Path(name) for name in listed.decode().split("\0") if name]
    else:
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        found = [path for path in found if not any(part[0] == "." or part in GENERATED for part in path.parts)]
    return tuple(sorted(path for path in found if (ROOT / path).is_file()))


def texts() -> Iterator[tuple[Path, str]]:
    """Every tracked file that is UTF-8 text, with its content."""
    for path in tracked():
        try:
            yield path, (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def python_files(*, tests: bool = True) -> Iterator[tuple[Path, str]]:
    """Python files of the packages, and those of the tests unless left out."""
    for path, text in texts():
        if path.suffix == ".py" and (path.parts[0] in PACKAGES or (tests and path.parts[0] == "tests")):
            yield path, text


def functions(text: str) -> Iterator[Function]:
    """Every function and method of a file, nested ones too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            yield node


def lines_without_docstring(function: Function) -> int:
    """Source lines of a function from `def` on, its docstring left out."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines
