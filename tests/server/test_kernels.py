"""Preparing kernels: a marker spares the compiling, and workers never outlive who started them."""

import importlib
import os
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path
from unittest.mock import patch

import pytest

from server import kernels
from server.kernels import CLIENTS_ONLY, LATER, MODULES, MOVING, SIGHT, prepare
from sim.jit import declared_kernels


def test_with_the_marker_in_place_nothing_is_compiled_in_other_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    monkeypatch.setattr(kernels, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(kernels, "declared_kernels", lambda: ["sim.rng.uniform"])
    monkeypatch.setattr(kernels, "compile_declared", lambda _: False)
    monkeypatch.setattr(kernels, "ProcessPoolExecutor", None)  # a pool would fail the test
    marker = kernels._marker("sim.rng.uniform")
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert prepare(lambda *entry: told.append(entry), modules=("sim.rng",)) == 0
    assert told == [(0, 1, "sim.rng.uniform")]


def test_what_another_checkout_has_compiled_is_not_taken_for_ready(tmp_path: Path) -> None:
    source = tmp_path / "checkout.py"
    source.write_text("from sim.jit import kernel\n", encoding="utf-8")
    module = types.ModuleType("sim.rng")
    module.__file__ = str(source)
    with patch.dict(sys.modules, {"sim.rng": module}):
        before = kernels._marker("sim.rng.uniform")
        os.utime(source, ns=(0, 0))
        assert kernels._marker("sim.rng.uniform") != before


def test_a_worker_lives_and_ends_with_its_parent() -> None:
    worker = textwrap.dedent("""
        import os, time
        from server.kernels import _start_worker
        _start_worker(os.getppid())
        print("on", flush=True)
        time.sleep(60)
    """)
    parent = textwrap.dedent(f"""
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", {worker!r}], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "on\\n"
        assert child.poll() is None
        print(child.pid)
    """)
    root = Path(__file__).parents[2]
    started = subprocess.run([sys.executable, "-c", parent], cwd=root, capture_output=True, text=True, check=True)
    stat = Path(f"/proc/{int(started.stdout)}/stat")
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return  # ended, and nobody has waited for it yet
        except OSError:
            return
        time.sleep(0.1)
    raise AssertionError("the worker outlived its parent")


def test_kernels_that_are_left_out_are_not_taken_for_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled: list[str] = []

    def compile_one(name: str) -> bool:
        compiled.append(name)
        return True

    monkeypatch.setattr(kernels, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(kernels, "declared_kernels", lambda: ["sim.rng.uniform", "sim.rng.other"])
    monkeypatch.setattr(kernels, "compile_declared", compile_one)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert prepare(modules=("sim.rng",), without={"sim.rng.other"}) == 1
    assert compiled == ["sim.rng.uniform"]
    assert kernels._marker("sim.rng.uniform").exists()
    assert not kernels._marker("sim.rng.other").exists(), "whoever needs the other one still has to compile it"
    assert prepare(modules=("sim.rng",)) == 2
    assert kernels._marker("sim.rng.other").exists()


def test_a_start_that_leaves_kernels_out_finds_all_others_ready_the_next_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kernels, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(kernels, "declared_kernels", lambda: ["sim.rng.uniform", "sim.rng.other"])
    monkeypatch.setattr(kernels, "compile_declared", lambda _: False)
    with monkeypatch.context() as alone:
        alone.setattr("os.sched_getaffinity", lambda _: {0})
        prepare(modules=("sim.rng",), without={"sim.rng.other"})
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(kernels, "ProcessPoolExecutor", None)  # a pool would fail the test
    assert prepare(modules=("sim.rng",), without={"sim.rng.other"}) == 0


def test_whatever_is_left_out_of_a_start_exists() -> None:
    for module in MODULES:
        importlib.import_module(module)
    assert set(declared_kernels()) >= LATER | CLIENTS_ONLY | SIGHT | MOVING
