"""The `hitreg` command as its users meet it: processes, exit codes, one line for what is wrong, nothing left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.livefeed import feed_path
from server.tickets import card_path
from tools.bench.runner import bench_names

ROOT = Path(__file__).parents[2]
HITREG = (sys.executable, "-m", "tools.cli")
WAIT_S = 900.0  # a busy machine; the first command of a fresh checkout compiles kernels


@pytest.fixture
def feed(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a feed that no other server uses; at the end neither it nor its card may be left."""
    name = f"cli-{os.getpid()}-{abs(hash(request.node.name)) % 10_000}"
    yield name
    assert not feed_path(name).exists()
    assert not card_path(name).exists()


def hitreg(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HITREG, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False)


def refused(*arguments: str) -> str:
    """The line that a refused command prints."""
    done = hitreg(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def gone(pid: int) -> bool:
    """Whether a process ends within a minute or two; one that nobody has waited for yet counts as ended."""
    for _ in range(2400):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_wrong_options_are_one_line() -> None:
    assert "hitreg serve: Invalid value for '--tick-hz'" in refused("serve", "--tick-hz", "fast")
    assert "No such command 'fly'" in refused("fly")


def test_wrong_settings_name_their_source_value_and_remedy(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("tick_hz = 500\n")
    assert refused("serve", "--config", str(file)).startswith(f"hitreg: {file}: tick_hz = 500: ")
    assert "command line: tick_hz = 5: " in refused("hash", "--tick-hz", "5")


@pytest.mark.slow
def test_an_unknown_game_and_one_that_raises_are_named(feed: str) -> None:
    assert "game 'chess': not installed; installed are arena" in refused("serve", "--game", "chess", "--feed", feed)
    line = refused("serve", "--game", "tests.server.bad_games:raises", "--feed", feed)
    assert re.search(r"raised RuntimeError: no licence for raises at .*bad_games\.py:\d+; mend the game", line)
    line = refused("run", "--game", "tests.server.bad_games:raises_at_start", "--feed", feed)
    assert "raised ZeroDivisionError at start" in line


def test_missing_corrupt_and_huge_maps_are_named(tmp_path: Path, feed: str) -> None:
    absent, corrupt, huge = tmp_path / "absent.bsp", tmp_path / "corrupt.bsp", tmp_path / "huge.bsp"
    corrupt.write_bytes(b"IBSP" + b"\xff" * 400)
    with huge.open("wb") as file:
        file.truncate(1 << 31)
    for path in (absent, corrupt, huge):
        line = refused("serve", "--map", str(path), "--feed", feed)
        assert line.startswith(f"hitreg: {path}: ")
        assert line.count(": ") >= 3  # file, field = value, remedy


def test_a_card_that_is_not_there_is_told() -> None:
    assert "start a server first" in refused("bots", "--card", "/nowhere/card.json")


def test_a_benchmark_that_does_not_exist_or_cannot_be_written_is_refused_before_measuring(
    tmp_path: Path,
) -> None:
    assert "choose one of " in refused("bench", "nonsense")
    assert "--data" in refused("bench", "rays", "--data", str(tmp_path / "absent"))
    assert "--json" in refused("bench", "rays", "--json", str(tmp_path / "no" / "file.json"))


@pytest.mark.slow
def test_ports_in_use_are_one_line_and_leave_nothing(feed: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert str(port) in refused("serve", "--no-edge", "--port", str(port), "--feed", feed)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("run", "--bots", "0", "--edge-port", str(port), "--feed", feed)
        assert line.startswith("hitreg: edge: --host 127.0.0.1 --port ")
        assert "choose another" in line


@pytest.mark.slow
def test_a_server_plays_for_so_many_seconds_and_ends(feed: str) -> None:
    done = hitreg("serve", "--no-edge", "--seconds", "1", "--tick-hz", "30", "--feed", feed)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^game: +127\.0\.0\.1:\d+ \(UDP\)$", done.stdout, re.MULTILINE)
    assert "made 30 ticks" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_match_with_page_and_bots_ends_with_its_server(feed: str, number: signal.Signals) -> None:
    """Stopped in order it exits with 0; killed, it takes bots and page along all the same."""
    command = [*HITREG, "run", "--bots", "4", "--edge-port", "0", "--tick-hz", "30", "--feed", feed]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "watch the match: http://127.0.0.1:" in process.stdout.readline()
            others = children(process.pid)
            assert len(others) >= 2  # the page and the bots, and what compiling may have left
            if number is signal.SIGTERM:
                refused("serve", "--no-edge", "--feed", feed)  # the feed is taken, and stays whole
                assert card_path(feed).exists()
            process.send_signal(number)
            assert process.wait(WAIT_S) == (0 if number is not signal.SIGKILL else -signal.SIGKILL)
        finally:
            process.kill()  # a failed check must not wait for a server that runs on
    assert all(gone(pid) for pid in others)
    if number is signal.SIGKILL:
        feed_path(feed).unlink()
        card_path(feed).unlink()


@pytest.mark.slow
def test_the_scripted_match_has_the_same_hash_in_two_processes_and_with_two_threads() -> None:
    arguments = ("hash", "--ticks", "40", "--players", "12")
    first, second = hitreg(*arguments), hitreg(*arguments, "--threads", "2")
    assert re.fullmatch(r"[0-9a-f]{16}\n", first.stdout), first.stderr
    assert first.stdout == second.stdout
    assert hitreg(*arguments, "--seed", "2").stdout != first.stdout


def test_what_only_prints(tmp_path: Path) -> None:
    assert hitreg("bench", "list").stdout.split() == bench_names()
    settings = hitreg("config").stdout
    assert 'game = "arena"  # ' in settings
    assert "tick_hz = 60  # simulation ticks per second" in settings
    facts = json.loads(hitreg("map", "info", "arena", "--json").stdout)
    assert facts["triangles"] > 100
    examined = hitreg("doctor")
    assert examined.returncode == 0, examined.stdout
    assert "kernel cache" in examined.stdout
