"""Without a place for compiled kernels a command ends with one line and code 2, not with a traceback of an import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cache_home import cache_problem


def test_a_place_that_can_be_written_is_made_and_is_no_problem(tmp_path: Path) -> None:
    assert cache_problem({"HITREG_CACHE_DIR": str(tmp_path / "deep" / "cache")}) is None
    assert (tmp_path / "deep" / "cache" / "kernels").is_dir()
    assert cache_problem({"HITREG_CACHE_DIR": str(tmp_path / "deep" / "cache")}) is None


def test_each_problem_names_variable_path_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        text = cache_problem({"HITREG_CACHE_DIR": str(path)})
        assert text is not None
        assert text.startswith(f"HITREG_CACHE_DIR = {path}: cannot be made: ")
        assert text.endswith("; set HITREG_CACHE_DIR to a directory that can be written")
    monkeypatch.setattr("os.access", lambda *_: False)
    text = cache_problem({"HITREG_CACHE_DIR": str(tmp_path)})
    assert text is not None
    assert f"{tmp_path / 'kernels'} cannot be written" in text
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    text = cache_problem({})
    assert text is not None
    assert text.startswith(f"the cache {tmp_path / '.cache' / 'hitreg'} (HITREG_CACHE_DIR is not set): ")
    assert "\n" not in text


def test_nobody_without_a_home_is_left_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    assert cache_problem({}) == (
        "HITREG_CACHE_DIR is not set, and this user has no home directory: set HITREG_CACHE_DIR to a directory that "
        "can be written"
    )
    assert "is no path" in str(cache_problem({"HITREG_CACHE_DIR": "a\0b"}))


def test_the_command_says_so_in_one_line_with_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    environment = {**os.environ, "HITREG_CACHE_DIR": str(tmp_path / "file")}
    made = subprocess.run(
        [sys.executable, "-m", "tools.cli", "config"], env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 2
    assert made.stdout == ""
    assert made.stderr.startswith(f"hitreg: HITREG_CACHE_DIR = {tmp_path / 'file'}: cannot be made: ")
    assert made.stderr.count("\n") == 1
