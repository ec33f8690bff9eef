"""How every benchmark measures: interleaved repeats, medians, and a reference in the same run.

A benchmark is a module `tools/bench/<name>.py` with `run(data: Sequence[Path]) -> list[Row]`; `hitreg bench <name>`
finds it by that name. Ratios say how many times better than the reference a value is: above 1 is better.
"""

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Row", "machine", "median_us", "report", "row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured case. `ratio` is reference / value where smaller is better, value / reference where larger is."""

    case: str
    value: float
    unit: str = "µs"
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None


def row(
    case: str,
    value: float,
    *,
    unit: str = "µs",
    reference: str = "",
    reference_value: float | None = None,
    larger_is_better: bool = False,
) -> Row:
    """Make a row, with its ratio worked out where there is a reference."""
    ratio = None
    if reference_value is not None:
        ratio = value / reference_value if larger_is_better else reference_value / value
    return Row(case, value, unit, reference, reference_value, ratio)


def median_us(functions: Mapping[str, Callable[[], object]], *, rounds: int = 7, inner: int = 1) -> dict[str, float]:
    """Median time of each function, measured in turn so that a slow moment of the machine meets them all.

    Args:
        functions: What to measure, by name; each is called once before measuring.
        rounds: How many times each is timed.
        inner: Calls per timing, for functions of a few microseconds.

    Returns:
        Microseconds per call, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, function in functions.items():
                start = time.perf_counter_ns()
                for _ in range(inner):
                    function()
                times[name].append((time.perf_counter_ns() - start) / 1e3 / inner)
    finally:
        if collecting:
            gc.enable()
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {"cpu": cpu, "python": platform.python_version(), "system": platform.system()}


def report(bench: str, rows: list[Row]) -> str:
    """The JSON document of one benchmark run."""
    document = {"bench": bench, "machine": machine(), "rows": [asdict(entry) for entry in rows]}
    return json.dumps(document, ensure_ascii=False, indent=1)
