"""Whether a recording's every state hash comes out again, and if not, where the two first differ.

A recorded hash says that a tick differs, not in what. The recorded values are in the key frames: on a difference the
match is played on to the next one, and the states there are compared value by value. Where these agree, the world that
was recorded is the world that was played here, and it is the recorded hash that is damaged.
"""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from server.errors import ReplayError
from server.replay import Replay, make_world
from server.replay_state import Difference, first_difference, state_columns
from sim.errors import SimError
from sim.snapshot import capture, restore
from sim.world import World

__all__ = ["Mismatch", "Verdict", "verify"]

PROGRESS_TICKS = 256
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where a recording and its re-simulation first differ.

    Attributes:
        tick: The first tick whose hashes differ, or the key frame whose bytes do.
        expected: Recorded state hash; None for a key frame.
        actual: State hash as played here.
        compared_tick: Tick of the key frame where values were compared; -1 where none follows.
        difference: The first value that differs there; the first side is the recording. None where all agree.
    """

    tick: int
    expected: int | None
    actual: int
    compared_tick: int
    difference: Difference | None

    def lines(self) -> list[str]:
        """What a person should know, a line each."""
        if self.expected is None:
            lines = [f"key frame of tick {self.tick} differs from the state played here"]
        else:
            lines = [f"tick {self.tick}: recorded hash {self.expected:016x}, played {self.actual:016x}"]
        if self.compared_tick < 0:
            return [*lines, "no key frame follows, so the recorded values are not known"]
        if self.difference is not None:
            return [*lines, f"at the key frame of tick {self.compared_tick}: {self.difference} (recorded ≠ played)"]
        if self.expected is None:
            return [*lines, "all tables agree: what differs are the memories or the form of the key frame"]
        return [*lines, f"the states agree at the key frame of tick {self.compared_tick}: the recorded hash is damaged"]


@dataclass(slots=True)
class Verdict:
    """What came of verifying a recording.

    Attributes:
        ticks: How many were re-simulated and compared.
        key_frames: How many key frames were compared byte by byte.
        first_tick, last_tick: What was played.
        mismatch: The first difference, or None.
        problems: What is wrong with the file itself.
    """

    first_tick: int
    last_tick: int
    ticks: int = 0
    key_frames: int = 0
    mismatch: Mismatch | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether everything that could be read came out again."""
        return self.mismatch is None

    def to_dict(self) -> dict[str, object]:
        """The same as plain values, for JSON; hashes in hexadecimal."""
        plain = asdict(self) | {"same": self.same}
        if self.mismatch is not None:
            hashes = (self.mismatch.expected, self.mismatch.actual)
            expected, actual = (None if value is None else f"{value:016x}" for value in hashes)
            plain["mismatch"] = asdict(self.mismatch) | {"expected": expected, "actual": actual}
        return plain


def verify(
    replay: Replay, *, each_key_frame: bool = False, progress: Progress | None = None, world: World | None = None
) -> Verdict:
    """Play a recording from its begin to its end and compare every state hash and every key frame.

    Args:
        replay: Of any tick; at the end of its recording, or at the first difference, afterwards.
        each_key_frame: Restore each key frame in turn and play from it to the next, so that each is shown to be a
            sufficient begin; without it one run goes through, and each key frame is compared with it.
        progress: Told (ticks made, ticks in all) now and then.
        world: A second world of the match for the comparison of values; made when needed unless given.

    Returns:
        What was found; verifying ends at the first difference.
    """
    replay.seek(replay.first_tick)
    verdict = Verdict(replay.first_tick, replay.last_tick)
    total = sum(span.last - span.first for span in replay.spans)
    while verdict.mismatch is None and replay.step():
        if not replay.made:  # at the key frame behind a gap
            continue
        verdict.ticks += 1
        if progress is not None and verdict.ticks % PROGRESS_TICKS == 0:
            progress(verdict.ticks, total)
        if replay.expected_hash != replay.actual_hash:
            verdict.mismatch = _explain(replay, world)
        elif replay.tick in replay.key_frames:
            _check_frame(replay, verdict, world, go_on_from_it=each_key_frame)
    if progress is not None:
        progress(verdict.ticks, total)
    verdict.last_tick = replay.tick if verdict.mismatch is None else replay.last_tick
    verdict.problems = list(replay.problems)
    return verdict


def _check_frame(replay: Replay, verdict: Verdict, world: World | None, *, go_on_from_it: bool) -> None:
    """Compare the key frame of the present tick byte by byte; one that cannot be read is a problem of the file."""
    with contextlib.suppress(ReplayError):
        if replay.key_frame(replay.tick) != capture(replay.world):
            verdict.mismatch = _compare_frame(replay, None, world)
            return
        verdict.key_frames += 1
        if go_on_from_it:
            replay.restore_frame(replay.tick)


def _explain(replay: Replay, world: World | None) -> Mismatch:
    """The mismatch of the present tick, its values compared at the next key frame."""
    tick, expected, actual = replay.tick, replay.expected_hash, replay.actual_hash
    while replay.tick not in replay.key_frames:
        if not replay.step() or not replay.made:
            return Mismatch(tick, expected, actual, -1, None)
    try:
        found = _compare_frame(replay, expected, world)
    except ReplayError:
        return Mismatch(tick, expected, actual, -1, None)
    return Mismatch(tick, expected, actual, found.compared_tick, found.difference)


def _compare_frame(replay: Replay, expected: int | None, world: World | None) -> Mismatch:
    """The played state against the key frame of the same tick, value by value.

    Raises:
        ReplayError: The key frame cannot be restored; it is left out and told of.
    """
    recorded = world or make_world(replay.header, lambda _: replay.world.map)
    try:
        restore(recorded, replay.key_frame(replay.tick))
    except SimError:
        replay.restore_frame(replay.tick)  # refused there as well, with nothing changed, and left out
        raise
    difference = first_difference(state_columns(recorded), state_columns(replay.world))
    return Mismatch(replay.tick, expected, replay.actual_hash, replay.tick, difference)
