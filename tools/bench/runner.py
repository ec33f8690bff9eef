"""Finding and running benchmarks by name."""

import importlib
import json
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tools.bench
from tools.bench.harness import report
from tools.errors import ToolsError

__all__ = ["bench_names", "run_bench"]

NOT_BENCHMARKS = {"harness", "long_match", "rig", "runner", "table_kernels"}


def bench_names() -> list[str]:
    """Names of all benchmarks, sorted."""
    return sorted(
        entry.name for entry in pkgutil.iter_modules(tools.bench.__path__) if entry.name not in NOT_BENCHMARKS
    )


def run_bench(name: str, data: Sequence[Path]) -> dict[str, Any]:
    """Run one benchmark.

    Args:
        name: One of `bench_names`.
        data: Data files for it; empty for its own.

    Returns:
        `{"bench", "machine", "rows"}`, as written by `--json`.

    Raises:
        ToolsError: There is no such benchmark, or a data file does not exist.
    """
    if name not in bench_names():
        raise ToolsError(f"bench {name!r}: not known; choose one of {', '.join(bench_names())}, or all")
    for path in data:
        if not path.is_file():
            raise ToolsError(f"bench {name}: --data {path}: no such file; give the path of a data file")
    module = importlib.import_module(f"tools.bench.{name}")
    document: dict[str, Any] = json.loads(report(name, module.run(data)))
    return document
