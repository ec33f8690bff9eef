"""Every harness holds over its corpus, and over some thousand inputs that coverage leads to."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.harnesses import HARNESSES
from tests.fuzz.seeds import CORPUS, corpora

ROOT = Path(__file__).parents[2]
RUNS = 10_000
FILES = sorted(file.relative_to(CORPUS) for file in CORPUS.glob("*/*"))


def test_every_harness_has_a_corpus_and_every_corpus_a_harness() -> None:
    assert {file.parts[0] for file in FILES} == set(HARNESSES)
    for name, seeds in corpora().items():
        for seed, content in seeds.items():
            assert (CORPUS / name / seed).read_bytes() == content, "run python -m tests.fuzz.seeds"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_the_corpus_holds(file: Path) -> None:
    HARNESSES[file.parts[0]]((CORPUS / file).read_bytes())


@pytest.mark.parametrize("file", FILES, ids=str)
def test_the_corpus_holds_cut_short_and_with_bits_flipped(file: Path) -> None:
    content = (CORPUS / file).read_bytes()
    for size in {*range(0, len(content), 1 + len(content) // 24)}:
        HARNESSES[file.parts[0]](content[:size])
        flipped = bytearray(content)
        flipped[size] ^= 1 << (size % 8)
        HARNESSES[file.parts[0]](bytes(flipped))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no build for this platform")
def test_inputs_that_coverage_leads_to_hold(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.run",
        "all",
        f"-runs={RUNS}",
        "-seed=1",
        f"-artifact_prefix={tmp_path}/",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    assert f"Done {RUNS}" in result.stderr, result.stderr[-2000:]
