"""Records a match of bots on a real server, faster than it lasts: everything in one process, on a clock moved by hand.

    python -m tools.golden_record JSON

`record_apart` starts it as a process of its own. Server, sockets, connections, bots and their bad networks are those
that everybody uses; only time is told and not read.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from net.simulator import profile_named
from persistence.recording import SUFFIX
from tools.errors import ToolsError

__all__ = ["BotParty", "record_apart", "record_match"]

NS = 1_000_000_000
SECONDS_MAX = 900.0
TOKENS_AHEAD_NS = 1_800 * NS  # tokens are made by the machine's clock, which runs on while this one is moved by hand
BOTS_PER_PARTY = 1000


@dataclass(frozen=True, slots=True)
class BotParty:
    """Bots that come, play and leave together.

    Attributes:
        count: How many.
        network: What they play through (`net.simulator.PROFILES`); empty: nothing.
        begin_s: When they connect [s].
        end_s: When they leave [s]; 0: never.
        team_change_s: When the first of them asks for the other team [s]; 0: never.
    """

    count: int
    network: str = ""
    begin_s: float = 0.0
    end_s: float = 0.0
    team_change_s: float = 0.0


class _Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NS
        self._start_unix_ns = time.time_ns() + TOKENS_AHEAD_NS

    def now_ns(self) -> int:
        return self.now

    def unix_ns(self) -> int:
        return self._start_unix_ns + self.now

    def sleep_until(self, moment_ns: int) -> None:
        self.now = max(self.now, moment_ns)


def record_match(
    directory: Path,
    *,
    map_source: str = "arena",
    parties: Sequence[BotParty],
    seconds: float,
    seed: int = 1,
    tick_hz: int = 60,
    keyframe_s: float = 10.0,
) -> Path:
    """Play and record a match.

    Args:
        directory: Where the recording is written.
        map_source: arena, openarena:NAME, or a map file.
        parties: Who plays.
        seconds: How long [s].
        seed: Of the server, the bots and their networks; timing of sockets leaves a rest of chance.
        tick_hz: Ticks per second.
        keyframe_s: Time between key frames [s].

    Returns:
        The recording.

    Raises:
        ToolsError, ServerError, NetError: One line that says what is wrong.
    """
    from server.app import Server
    from server.config import load_config
    from server.kernels import MODULES, prepare
    from tools.bots import BotSwarm
    from tools.maps import OPENARENA
    from tools.openarena import map_path

    if not 0.0 < seconds <= SECONDS_MAX:
        raise ToolsError(f"recording {seconds} s: give up to {SECONDS_MAX:g} s")
    source = str(map_path(map_source.removeprefix(OPENARENA))) if map_source.startswith(OPENARENA) else map_source
    settings = {
        "map": source, "seed": seed, "tick_hz": tick_hz, "feed": f"golden-{os.getpid()}", "feed_hz": 0,
        "visibility": "off", "record_dir": str(directory), "record_keyframe_s": keyframe_s, "resume_s": 0,
    }  # fmt: skip
    prepare(modules=(*MODULES, "tools.bots"))
    clock = _Hands()
    with ExitStack() as stack:
        server = stack.enter_context(Server(load_config(None, settings), clock=clock, sealed=False))
        swarms: dict[int, BotSwarm] = {}
        changed: set[int] = set()
        start, tick_ns = clock.now, NS // tick_hz
        for tick in range(round(seconds * tick_hz)):
            clock.now = start + tick * tick_ns
            elapsed = tick / tick_hz
            for number, party in enumerate(parties):
                if elapsed < party.begin_s:
                    continue
                if number not in swarms:
                    network = profile_named(party.network) if party.network else None
                    swarm = BotSwarm(
                        server.card, party.count, seed=seed + number, first=number * BOTS_PER_PARTY, network=network
                    )  # fmt: skip
                    swarms[number] = stack.enter_context(swarm)
                if party.end_s and elapsed >= party.end_s:
                    swarms[number].close(clock.now)
                    continue
                if party.team_change_s and number not in changed and elapsed >= party.team_change_s:
                    changed.add(number)
                    swarms[number].party.tell(0, "choose_team", 3 - int(swarms[number].brain.team[0]))
                swarms[number].frame(clock.now)
            server.frame.run(clock.now)
    return _only_recording(directory)


def _only_recording(directory: Path) -> Path:
    found = sorted(directory.glob(f"*{SUFFIX}"))
    if len(found) != 1:
        raise ToolsError(f"recording into {directory}: {len(found)} files came of it, one was expected")
    return found[0]


def record_apart(
    directory: Path,
    *,
    map_source: str = "arena",
    parties: Sequence[BotParty],
    seconds: float,
    seed: int = 1,
    keyframe_s: float = 10.0,
) -> Path:
    """As `record_match`, in a process of its own.

    Raises:
        ToolsError: It failed; its last line says why.
    """
    wish = {
        "directory": str(directory), "map_source": map_source, "parties": [asdict(party) for party in parties],
        "seconds": seconds, "seed": seed, "keyframe_s": keyframe_s,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tools.golden_record", json.dumps(wish)],
        capture_output=True, text=True, check=False, env={**os.environ, "NUMBA_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it ended without a word"]
        raise ToolsError(f"recording a match on {map_source}: {lines[-1]}")
    return Path(done.stdout.strip().splitlines()[-1])


def _main() -> None:
    wish = json.loads(sys.argv[1])
    directory = Path(wish.pop("directory"))
    parties = [BotParty(**party) for party in wish.pop("parties")]
    sys.stdout.write(f"{record_match(directory, parties=parties, **wish)}\n")


if __name__ == "__main__":
    _main()
