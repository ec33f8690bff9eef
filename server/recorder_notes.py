"""What a recording says each second of the network and of the tick, in columns.

Kinds of notes, beside those of `server.event_notes` (`events`), `server.refusals` (`refusal`) and the session's
(`begin`, `present`, `connect`, `disconnect`, `end`; see docs/recording.md); all columns little endian, as bytes:

    network   entity     u64[]   players with a client, by client
              client     u16[]
              rtt_ms     u16[]   smoothed round trip
              jitter_ms  u16[]
              loss       u16[]   share of packets to the client lost of late [1/10,000]
              kbps_out   u32[]   sent to the client in the last second [kbit/s]
              kbps_in    u32[]   received from it
              rewind     u16[]   how far in the past its shots are judged [1/256 tick]
              lead       i16[]   how early its inputs come before their ticks, on average [1/256 tick]
              view       u16[]   how far in the past it is shown the others, as it says and where that is believed, else
                                 as derived: `rewind` before the cap [1/256 tick]
    stages    mean_ns    u32[]   time per tick of each stage of the tick, as listed by `begin`
              max_ns     u32[]   the longest
              ticks      int     of how many ticks
"""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sim.arrays import I64, AnyArray
from sim.commands import REWIND_STEPS, Commands

if TYPE_CHECKING:  # who only reads notes, as replay workers do, need not load the network's kernels
    from net.endpoint import Endpoint
    from net.inputs import InputQueues
    from server.sessions import Sessions

__all__ = ["NETWORK_COLUMNS", "NetworkNotes", "NoteSource", "StageNotes", "read_network", "read_stages"]

NETWORK_COLUMNS = {
    "entity": "<u8", "client": "<u2", "rtt_ms": "<u2", "jitter_ms": "<u2", "loss": "<u2", "kbps_out": "<u4",
    "kbps_in": "<u4", "rewind": "<u2", "lead": "<i2", "view": "<u2",
}  # fmt: skip
LATER_COLUMNS = frozenset({"lead", "view"})  # older recordings have none


class NoteSource(Protocol):
    """What has something to say each second."""

    def take(self) -> None:
        """Look at the tick just made."""

    def note(self) -> dict[str, Any] | None:
        """The values of the note about all ticks since the last; None for no note."""


class NetworkNotes:
    """The network of each player with a client."""

    def __init__(self, endpoint: "Endpoint", inputs: "InputQueues", sessions: "Sessions", commands: Commands) -> None:
        self._endpoint, self._inputs, self._sessions, self._commands = endpoint, inputs, sessions, commands
        clients = len(sessions.row)
        self._seen: I64 = np.zeros((2, clients), np.int64)

    def take(self) -> None:
        """Nothing: all is read once a second."""

    def _bytes(self, row: int, counter: I64, clients: AnyArray) -> AnyArray:
        """Bytes since the last note; a peer opened meanwhile begins at 0."""
        count: AnyArray = counter[clients] - self._seen[row, clients]
        count = np.where(count < 0, counter[clients], count)
        self._seen[row] = counter
        return count

    def note(self) -> dict[str, Any] | None:
        """The columns of one second, or None where nobody plays."""
        endpoint, sessions = self._endpoint, self._sessions
        clients = np.flatnonzero(sessions.row >= 0)
        sent = self._bytes(0, endpoint.sent_bytes, clients)
        received = self._bytes(1, endpoint.received_bytes, clients)
        if not len(clients):
            return None
        columns: dict[str, AnyArray] = {
            "entity": sessions.entity[clients],
            "client": clients,
            "rtt_ms": endpoint.rtt_ns[clients] / 1e6,
            "jitter_ms": endpoint.jitter_ns[clients] / 1e6,
            "loss": endpoint.loss[clients] * 1e4,
            "kbps_out": sent / 125,
            "kbps_in": received / 125,
            "rewind": self._commands.rewind[sessions.row[clients]],
            "lead": self._inputs.lead_ticks[clients] * REWIND_STEPS,
            "view": self._inputs.view_given[clients] * REWIND_STEPS,
        }
        return {name: _packed(columns[name], dtype) for name, dtype in NETWORK_COLUMNS.items()}


def _packed(values: AnyArray, dtype: str) -> bytes:
    """Values as bytes, rounded and brought into the range of the type."""
    if values.dtype.kind == "f":
        values = np.rint(np.nan_to_num(values)).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    return values.astype(dtype).tobytes()


class StageNotes:
    """How long the stages of the tick took."""

    def __init__(self, stage_ns: I64) -> None:
        """Follows times that another writes, each tick anew."""
        self._stage_ns = stage_ns
        self._sum: I64 = np.zeros(len(stage_ns), np.int64)
        self._most: I64 = np.zeros(len(stage_ns), np.int64)
        self._ticks = 0

    def take(self) -> None:
        """Take in the times as they stand: of stages still to come, those of the tick before."""
        self._sum += self._stage_ns
        np.maximum(self._most, self._stage_ns, out=self._most)
        self._ticks += 1

    def note(self) -> dict[str, Any] | None:
        """The columns of one second."""
        ticks, self._ticks = self._ticks, 0
        if not ticks:
            return None
        values = {
            "mean_ns": _packed(self._sum / ticks, "<u4"),
            "max_ns": _packed(self._most.astype(np.float64), "<u4"),
            "ticks": ticks,
        }
        self._sum[:] = self._most[:] = 0
        return values


def read_network(values: dict[str, Any]) -> dict[str, AnyArray] | None:
    """The columns of a `network` note, equally long, or None where it is malformed.

    Of older recordings `LATER_COLUMNS` lack.
    """
    try:
        columns = {
            name: np.frombuffer(values[name], dtype)
            for name, dtype in NETWORK_COLUMNS.items()
            if name in values or name not in LATER_COLUMNS
        }
    except (KeyError, ValueError, TypeError):
        return None
    return columns if len({len(column) for column in columns.values()}) == 1 else None


def read_stages(values: dict[str, Any]) -> tuple[AnyArray, AnyArray] | None:
    """Mean and longest time of each stage [ns] of a `stages` note, or None where it is malformed."""
    try:
        mean, most = np.frombuffer(values["mean_ns"], "<u4"), np.frombuffer(values["max_ns"], "<u4")
    except (KeyError, ValueError, TypeError):
        return None
    return (mean, most) if len(mean) == len(most) else None
