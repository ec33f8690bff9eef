"""Golden matches: recorded matches that every build must play as it did before, or say on purpose that it does not.

Each is a match of bots on a real server, over a bad network, with players who come late, leave, and change teams. Its
file holds the commands, a state hash per tick and a key frame now and then, so that a change of behaviour is not only
seen but named. Golden matches begin with an empty world at tick 0; what they compare is behaviour. The digest of the
build and the layout of the state, which other recordings are bound to, are only noted in them.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgpack

import tools
from persistence.recording import SUFFIX, ChunkKind, RecordingWriter
from server.errors import ReplayError
from server.match import CommandTape, MatchHeader, encode_block, kernel_digest
from server.replay import Replay, make_world
from server.replay_state import Difference, first_difference, state_columns
from server.replay_tape import Tape
from sim.errors import SnapshotError
from sim.snapshot import capture, layout_hash, restore
from sim.world import World
from tools.errors import ToolsError
from tools.golden_record import BotParty, record_apart
from tools.maps import open_map

__all__ = ["GOLDEN", "Blessing", "GoldenMatch", "bless_match", "golden_files", "open_golden", "record_golden"]

BLOCK_TICKS = 240
COMPRESSION_LEVEL = 19
KEYFRAME_TICKS = 600
NOTES_KEPT = frozenset({"connect", "disconnect", "refusal"})  # figures of the network and of time say nothing here
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class GoldenMatch:
    """How one is recorded."""

    name: str
    map: str
    seed: int
    seconds: float = 20.0
    parties: tuple[BotParty, ...] = (
        BotParty(8, network="broadband", team_change_s=8.0),
        BotParty(4, network="mobile", begin_s=5.0),
        BotParty(4, network="bad-wifi", end_s=12.0),
    )


GOLDEN = (
    GoldenMatch("arena", "arena", seed=11),
    GoldenMatch("oa_dm2", "openarena:oa_dm2", seed=12),
    GoldenMatch("oa_dm3", "openarena:oa_dm3", seed=13),
)


@dataclass(slots=True)
class Blessing:
    """What the present build does otherwise than a golden match says.

    Attributes:
        ticks: How many were played.
        changed_ticks: How many have another state hash.
        first_tick: The first of them, or -1.
        compared_tick: Key frame at which values were compared, or -1.
        difference: The first value that differs there; the first side is the recording.
        noted: What else is noted otherwise: layout, map, build.
    """

    ticks: int
    changed_ticks: int = 0
    first_tick: int = -1
    compared_tick: int = -1
    difference: Difference | None = None
    noted: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether behaviour has changed."""
        return self.changed_ticks > 0

    def lines(self) -> list[str]:
        """What a person should know, a line each."""
        if not self.changed:
            return [f"{self.ticks} ticks as before", *self.noted]
        lines = [
            f"behaviour changed: {self.changed_ticks} of {self.ticks} ticks differ, from tick {self.first_tick} on"
        ]
        if self.difference is not None:
            lines.append(f"at the key frame of tick {self.compared_tick}: {self.difference} (before ≠ now)")
        return [*lines, *self.noted]


def golden_files() -> list[Path]:
    """The project's golden matches.

    Raises:
        ToolsError: This is no checkout of the project.
    """
    home = Path(str(tools.__file__)).resolve().parent.parent / "tests" / "golden" / "matches"
    if not home.is_dir():
        raise ToolsError("golden matches are part of the project's checkout, and this is none: name the files")
    return [home / f"{match.name}{SUFFIX}" for match in GOLDEN]


def open_golden(path: Path) -> Replay:
    """A golden match in an empty world of this build, whatever build and map file it was recorded with.

    Raises:
        ReplayError: It cannot be read, or this build cannot take its commands.
    """
    with Tape.read(path) as tape:
        world = make_world(tape.header, open_map, any_map=True)
    return Replay.open(path, any_build=True, blank=True, world=world)


def record_golden(files: Sequence[Path], *, tell: Tell) -> Iterator[Path]:
    """Play golden matches anew on a server and write them; each takes about as long as it lasts.

    Args:
        files: Which of `golden_files`, by their names.
        tell: Told what is about to be done.

    Returns:
        The files written, one after the other.

    Raises:
        ToolsError: A file is none of the golden matches, or a match could not be recorded.
    """
    known = {match.name: match for match in GOLDEN}
    for path in files:
        match = known.get(path.stem)
        if match is None:
            raise ToolsError(f"{path}: is no golden match; there are {', '.join(known)}")
        tell(f"{path.name}: {match.seconds:g} s on {match.map}")
        with tempfile.TemporaryDirectory() as scratch:
            recorded = record_apart(
                Path(scratch), map_source=match.map, parties=match.parties, seconds=match.seconds, seed=match.seed
            )  # fmt: skip
            with Tape.read(recorded) as tape:
                if tape.first_tick:
                    raise ToolsError(f"{path}: the recording begins at tick {tape.first_tick}, not with an empty world")
            path.parent.mkdir(parents=True, exist_ok=True)
            bless_match(recorded, target=path, map_source=match.map)
        yield path


def bless_match(path: Path, *, write: bool = True, target: Path | None = None, map_source: str = "") -> Blessing:
    """Play a golden match in this build and write down what it does now.

    Args:
        path: The file; replaced where anything in it has changed.
        write: Whether to.
        target: Another file to write to, changed or not.
        map_source: What to call the map's source from now on; as before unless given.

    Raises:
        ReplayError: It cannot be played.
        RecordingError: It cannot be written.
    """
    with Tape.read(path) as tape, open_golden(path) as replay:
        header = _fresh_header(tape.header, replay.world, map_source)
        found = Blessing(replay.last_tick, noted=_noted(tape.header, header))
        goal = target or path
        with tempfile.TemporaryDirectory(prefix=".bless-", dir=goal.parent) as scratch:
            fresh = Path(scratch) / goal.name
            with RecordingWriter(fresh, header.to_dict(), level=COMPRESSION_LEVEL) as writer:
                _play(tape, replay, writer, found)
            if target is not None or (write and (found.changed or found.noted)):
                fresh.replace(goal)
    return found


def _fresh_header(old: MatchHeader, world: World, map_source: str) -> MatchHeader:
    return replace(
        old,
        map_source=map_source or old.map_source,
        layout_hash=layout_hash(world),
        kernel_digest=kernel_digest(world.game),
        map_hash=world.map.content_hash(),
        game_version=world.game.version,
        players_capacity=world.players.capacity,
    )


def _noted(old: MatchHeader, new: MatchHeader) -> list[str]:
    """What the headers note otherwise, but the build, which every edit changes."""
    names = ("layout_hash", "map_hash", "game_version", "players_capacity")
    return [
        f"{name}: {getattr(old, name)} becomes {getattr(new, name)}"
        for name in names
        if getattr(old, name) != getattr(new, name)
    ]


def _play(tape: Tape, replay: Replay, writer: RecordingWriter, found: Blessing) -> None:
    """Write the match anew while it is played, and compare it with what was."""
    capacity = replay.world.players.capacity
    block = CommandTape(capacity, ticks_max=BLOCK_TICKS)

    def flush() -> None:
        if block.count:
            writer.append(ChunkKind.COMMANDS, block.first_tick, block.count, encode_block(block))
            block.clear()

    writer.append(ChunkKind.KEYFRAME, 0, 0, capture(replay.world))
    while replay.step():
        block.append(replay.tick, replay.commands, replay.actual_hash)
        if replay.actual_hash != replay.expected_hash:
            found.changed_ticks += 1
            found.first_tick = replay.tick if found.first_tick < 0 else found.first_tick
        if replay.tick % KEYFRAME_TICKS == 0 or replay.tick == replay.last_tick:
            writer.append(ChunkKind.KEYFRAME, replay.tick, 0, capture(replay.world))
        if found.changed and found.compared_tick < 0 and replay.tick in tape.key_frames:
            _compare(tape, replay, found)
        if block.full:
            flush()
    flush()
    notes = [(note.tick, note.kind, note.values) for note in tape.notes() if note.kind in NOTES_KEPT]
    if notes:
        writer.append(ChunkKind.NOTES, notes[0][0], notes[-1][0] - notes[0][0] + 1, msgpack.packb(notes))


def _compare(tape: Tape, replay: Replay, found: Blessing) -> None:
    """The values that were, against those that are; of another layout they cannot be compared."""
    found.compared_tick = replay.tick
    before = World(
        replay.world.game, replay.world.map, replay.world.geometry, tick_hz=replay.world.tick_hz,
        seed=replay.world.seed, zone=replay.world.zone, max_rewind_ms=replay.world.max_rewind_ms,
    )  # fmt: skip
    try:
        restore(before, tape.key_frame(replay.tick))
    except (SnapshotError, ReplayError):
        return
    found.difference = first_difference(state_columns(before), state_columns(replay.world))
