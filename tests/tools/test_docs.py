"""What the documentation says to type works, and its generated pages are current."""

import functools
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from net.address import parse_address
from net.tokens import issue_token
from server.config import ServerConfig
from server.game import load_game
from sim.commands import Commands
from sim.world import World
from tests.server.recorded_script import record_script
from tools.gen_docs import main, pages

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WAIT_S = 900.0  # a command may have kernels to compile, on a busy machine
# Commands that need a server, other files, minutes, or a network: that they exist is checked, not what they do.
HELP_ONLY = {"bots", "bench", "netem", "soak"}
PLACEHOLDERS = {"NAME", "FILE", "FIRST", "SECOND"}  # of recordings
MOMENTS = {"1234", "12:34.567"}
RECORDED_TICKS = 240
ENDLESS = {"run", "serve"}
SKELETON = re.compile(r"\b[A-Z]{3,}\b|\bpackage\.module\b|\.\.\.|…")


def documents() -> list[Path]:
    return [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of the fenced shell blocks that starts hitreg or make, with where it stands."""
    for path in documents():
        for block in FENCE.findall(path.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                while words and re.match(r"\w+=", words[0]):
                    words = words[1:]
                if words and Path(words[0]).name in {"hitreg", "make"}:
                    yield f"{path.relative_to(ROOT)}: {line.strip()}", words


def _make_token_files(words: list[str], directory: Path) -> None:
    """What earlier lines of the page have made, for those that read it."""
    if words[2] != "key":
        (directory / "servers.key").write_text("ab" * 32 + "\n", encoding="ascii")
    if words[2] == "show":
        token = issue_token(
            protocol_id=1, private_key=bytes.fromhex("ab" * 32), client_id=1, now_unix_s=int(time.time()),
            addresses=[parse_address("203.0.113.5:40000")],
        )  # fmt: skip
        (directory / words[3]).write_bytes(token)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A short recording in which somebody called Ann has shot."""

    path: Path
    shot_tick: int


@functools.cache
def recorded(directory: Path) -> Recorded:
    """A scripted match, recorded once for all commands that read one."""
    shots: list[tuple[int, int]] = []

    def listen(world: World, _: Commands) -> None:
        events = world.events
        at = np.flatnonzero(events.kind[: events.count] == world.game.event("shot"))
        shots.extend((world.tick, int(events.actor[index])) for index in at)

    path = directory / "docs.hitrec"
    record_script(path, ticks=RECORDED_TICKS, change=listen)
    path.unlink()
    tick, ann = shots[0]
    notes: list[tuple[int, str, dict[str, Any]]] = [(1, "connect", {"client": 0, "entity": ann, "name": "Ann"})]
    return Recorded(record_script(path, ticks=RECORDED_TICKS, notes=notes), tick)


def replayed(words: list[str], recording: Recorded) -> list[str]:
    """The words of a `hitreg replay`, for that recording."""
    if words[2] == "bless":
        return [*words[1:3], "--help"]  # it writes into the tests, or plays for minutes
    moment = str(recording.shot_tick if words[2] == "shot" else RECORDED_TICKS // 2)
    meant = dict.fromkeys(PLACEHOLDERS, str(recording.path)) | dict.fromkeys(MOMENTS, moment) | {"PATH": str(ROOT)}
    meant |= {"1:00": "0:01", "2:30": "0:03"} | ({"12": "1", "42": "1"} if words[2] == "shot" else {})
    given = [meant.get(word, word) for word in words[1:]]
    return [*given, "--print"] if words[2] == "step" else given


def runnable(words: list[str], directory: Path, recordings: Path) -> list[str]:
    """A command that shows the same and ends: endless ones for two seconds, costly ones with --help only."""
    if Path(words[0]).name == "make":
        return ["make", "-n", "-C", str(ROOT), *words[1:]]
    program = [sys.executable, "-m", "tools.cli"]
    if words[1] == "replay":
        return [*program, *replayed(words, recorded(recordings))]
    if words[1] == "token":
        _make_token_files(words, directory)
    if SKELETON.search(" ".join(words)) or words[1] in HELP_ONLY:
        depth = 3 if words[1] == "map" else 2
        return [*program, *words[1:depth], "--help"]
    extra = ["--seconds", "2", "--feed", f"docs-{os.getpid()}"] if words[1] in ENDLESS else []
    extra += ["--edge-port", "0"] if words[1] in ENDLESS and "--no-edge" not in words else []
    return [*program, *words[1:], *extra]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the recording that commands of the documentation read."""
    return tmp_path_factory.mktemp("recordings")


@pytest.mark.slow
@pytest.mark.parametrize(("where", "words"), [pytest.param(*entry, id=entry[0]) for entry in commands()])
def test_every_command_in_the_documentation_works(
    where: str, words: list[str], tmp_path: Path, recordings: Path
) -> None:
    command = runnable(words, tmp_path, recordings)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if words[1:2] == ["replay"]:
        environment["HITREG_RECORD_DIR"] = str(recordings)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"


def test_commands_are_found_in_the_documentation() -> None:
    assert any(words[:2] == ["hitreg", "hash"] for _, words in commands())


def test_the_generated_pages_are_current() -> None:
    assert main(["--check"]) == 0


def test_the_generated_pages_name_every_setting_and_system() -> None:
    text = "".join(pages().values())
    assert not [name for name in ServerConfig.model_fields if f"`{name}`" not in text]
    assert not [system.name for system in load_game("arena").systems if f"`{system.name}`" not in text]


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in documents()
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8"))
        if not (path.parent / target).exists()
    ]
    assert not broken
