"""Finding and running benchmarks, and the document they write."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from tools.bench import runner
from tools.bench.harness import median_us, row
from tools.cli import app
from tools.errors import ToolsError


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("tools.bench.tiny")
    module.run = lambda _data: [  # type: ignore[attr-defined]  # a module made by hand
        row("1k things", 2.0, reference="slow", reference_value=6.0),
        row("1k more", 6.0, unit="Mbit/s", reference="slow", reference_value=3.0, larger_is_better=True),
        row("alone", 1.0),
    ]
    monkeypatch.setitem(sys.modules, "tools.bench.tiny", module)
    monkeypatch.setattr(runner, "bench_names", lambda: ["tiny"])
    return "tiny"


def test_the_document_holds_cases_values_and_ratios(tiny: str, tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["bench", tiny, "--json", "-"])
    document = json.loads(printed.stdout)
    assert set(document) == {"bench", "machine", "rows"}
    assert [entry["ratio"] for entry in document["rows"]] == [3.0, 2.0, None]
    assert set(document["rows"][0]) == {"case", "value", "unit", "reference", "reference_value", "ratio"}
    file = tmp_path / "rows.json"
    shown = CliRunner().invoke(app, ["bench", tiny, "--json", str(file)])
    assert "3.00×" in shown.stdout
    assert json.loads(file.read_text())["rows"] == document["rows"]


def test_an_unknown_benchmark_or_file_is_one_line(tiny: str, tmp_path: Path) -> None:
    with pytest.raises(ToolsError, match="choose one of tiny, or all"):
        runner.run_bench("large", [])
    with pytest.raises(ToolsError, match="no such file"):
        runner.run_bench(tiny, [tmp_path / "absent"])


def test_every_benchmark_can_be_run_by_its_name() -> None:
    names = runner.bench_names()
    assert {"broadphase", "rays", "motion", "frame"} <= set(names)
    assert not {"harness", "runner"} & set(names)


def test_functions_are_measured_in_turn() -> None:
    order: list[str] = []
    found = median_us({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert "".join(order) == "ab" * 4
    assert set(found) == {"a", "b"}
