"""Frames of a recorded match, made by playing it again: what a page draws at a tick, in the live feed's records.

A frame at tick T holds the state at the end of T and the events of the ticks after the frame before it, so that a page
that shows every eighth tick misses no shot. `wall_ns` is the match's own time: T ticks of it.
"""

from collections.abc import Callable, Iterator

import numpy as np

from server.livefeed import FRAME, PICKUPS_MAX, PLAYERS_MAX, PROJECTILES_MAX, VERSION
from server.liverows import LiveRows, live_names
from server.replay import Replay
from server.replay_wire import CHUNK, Binary
from sim.arrays import U64, AnyArray

__all__ = ["ReplayFrames", "pack_chunk"]

Figures = Callable[[int], dict[str, AnyArray] | None]


def pack_chunk(request: int, first: int, frames: list[bytes], *, stride: int) -> bytes:
    """The binary message that carries frames; layout in `server.replay_wire`."""
    head = CHUNK.pack(Binary.CHUNK, stride, request & 0xFFFFFFFF, first, len(frames))
    return head + b"".join(len(frame).to_bytes(4, "little") + frame for frame in frames)


class ReplayFrames:
    """Makes frames of one replay.

    Attributes:
        figures: Gives the network's columns about a tick (`server.recorder_notes`), for ping and rate of players.
        differs: The first tick found whose state hash is not the recorded one, or None.
        checked: How many ticks' hashes were compared.
    """

    def __init__(self, replay: Replay) -> None:
        """Take over a replay, which `frames` moves about."""
        self._replay = replay
        self._rows = LiveRows(replay.world)
        self.figures: Figures = lambda _: None
        self._shown: dict[str, AnyArray] | None = None
        self._head: AnyArray = np.zeros(1, FRAME)
        self._head["kind"], self._head["version"] = 1, VERSION
        self._words: U64 = self._head.view(np.uint64)
        self._told: dict[int, str] = {}
        self.differs: int | None = None
        self.checked = 0

    def frames(self, first: int, last: int, stride: int) -> Iterator[bytes]:
        """Frames at `first`, `first + stride`, … up to `last`; of ticks that cannot be played, none.

        The first one's events are those of the `stride` ticks before it. A part of the recording that turns out to be
        damaged ends them early: `Replay.spans` tells then what is left.
        """
        for span in tuple(self._replay.spans):
            low, high = max(first, span.first), min(last, span.last)
            ticks = range(first + -(-(low - first) // stride) * stride, high + 1, stride)
            if ticks:
                self._begin(max(span.first, ticks[0] - stride))
            for tick in ticks:
                if not self._play(tick):
                    return
                yield self.frame()

    def _begin(self, tick: int) -> None:
        if self._replay.tick != tick:
            self._replay.seek(tick)
        self._rows.clear_events()

    def _play(self, tick: int) -> bool:
        """Make ticks up to this one; False where there is no way there any more."""
        replay = self._replay
        while replay.tick < tick:
            if not replay.step() or not replay.made:
                return False
            self._rows.take_events()
            self._compare()
        return replay.tick == tick

    def _compare(self) -> None:
        """Hold the state against the recorded hash; after the first difference there is nothing more to learn."""
        replay = self._replay
        if self.differs is None and replay.expected_hash is not None:
            self.checked += 1
            if replay.expected_hash != replay.actual_hash:
                self.differs = replay.tick

    def frame(self) -> bytes:
        """The frame of the tick at which the replay stands, with the events taken since the last."""
        tick = self._replay.tick
        rows = self._rows
        self._fill_figures(tick)
        players, projectiles = rows.players()[:PLAYERS_MAX], rows.projectiles()[:PROJECTILES_MAX]
        pickups, events, movers = rows.pickups()[:PICKUPS_MAX], rows.events, rows.movers()
        words = self._words
        words[1] = words[2] = tick
        words[3] = tick * 1_000_000_000 // self._replay.header.tick_hz
        words[4] = len(players) | len(projectiles) << 16 | len(pickups) << 32 | len(events) << 48
        words[5] = len(movers) << 16
        content = b"".join(part.tobytes() for part in (self._head, players, projectiles, pickups, events, movers))
        rows.clear_events()
        return content

    def _fill_figures(self, tick: int) -> None:
        """Ping and rate of the second that the tick lies in."""
        columns = self.figures(tick)
        if columns is self._shown:
            return
        self._shown = columns
        player, table = self._rows.player, self._replay.world.players
        player["ping_ms"] = player["bytes_out"] = 0
        if columns is None:
            return
        slots = table.resolve(np.ascontiguousarray(columns["entity"], np.uint64))
        held = slots >= 0
        player["ping_ms"][slots[held]] = columns["rtt_ms"][held]
        player["bytes_out"][slots[held]] = columns["kbps_out"][held] * 125

    def new_names(self) -> dict[str, str]:
        """Names of players, by entity, that were not given before or have changed."""
        table = self._replay.world.players
        fresh: dict[str, str] = {}
        for slot, name in enumerate(live_names(self._replay.world)):
            entity = int(table.ids[slot])
            if entity and self._told.get(entity) != name:
                self._told[entity] = name
                fresh[str(entity)] = name
        return fresh
