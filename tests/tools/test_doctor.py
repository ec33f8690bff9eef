"""What the doctor says: the remedy with every lack, and what is needed apart from what is nice to have."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools import doctor
from tools.cli import app
from tools.doctor import Finding, examine


def test_this_machine_can_run_the_server() -> None:
    findings = examine()
    assert not [finding for finding in findings if finding.needed and not finding.ok]
    assert len({finding.what for finding in findings}) == len(findings)


def test_a_cache_that_cannot_be_written_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cache_root", lambda: Path("/proc/hitreg"))
    monkeypatch.setattr("os.access", lambda *_: False)
    (finding,) = [finding for finding in examine() if finding.what == "kernel cache"]
    assert not finding.ok
    assert "HITREG_CACHE_DIR" in finding.remedy


@pytest.mark.parametrize(("needed", "code"), [(True, 1), (False, 0)])
def test_only_what_is_needed_fails_the_command(monkeypatch: pytest.MonkeyPatch, *, needed: bool, code: int) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("engine", False, "none", "buy one", needed)])
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == code
    assert "buy one" in result.stdout
