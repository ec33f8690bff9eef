"""The messages between a replay worker, the edge that started it, and the page that watches.

A worker is a process (`server.replay_worker`) that makes a recorded match again for one page. The edge only carries: it
reads no recording and loads no kernel for this.

Worker to edge, on its standard output, little endian: `u32 length | u8 kind | length bytes`, kind TEXT (UTF-8 JSON) or
BINARY. The edge hands both on to the WebSocket as they are.

    {"type": "preparing", "done", "total"}     kernels are being compiled
    {"type": "ready"}                          kernels are loaded; a file can be opened
    {"type": "failed", "text"}                 the file cannot be shown; one line
    {"type": "opened", "file", "info", "first", "last", "spans", "problems", "complete", …}
    {"type": "damaged", "first", "last", "spans", "problems"}  more is damaged than was known
    {"type": "names", "names": {ENTITY: name}} before the first frame in which a player stands
    {"type": "index", "players", "marks", "stages", "shots", "left_out", "problems"}  from `server.replay_index`
    {"type": "network", "entity", "ticks", "rtt", "delay", "kbps", "loss"}  one player's connection: ms, ms, kbit/s, %
    {"type": "shot", "number", "tick", "entity", "verdict", "text", "drawing"}  as `hitreg replay shot` explains it;
                                               drawing: rays; the boxes of bodies where they were judged
                                               and are; the bounds of movers as they stood then, of the one
                                               that stopped the ray and of those that stand elsewhere now
    {"type": "differs", "tick"}                from here on the match made again is not the one recorded
    {"type": "dropped", "id"}                  frames asked for that are not wanted any more
    {"type": "refused", "text"}                a request that makes no sense
    BINARY, by its first two bytes:
    u16 16 CHUNK   u16 stride, u32 id, u32 first tick, u32 frames, then per frame u32 length and a frame as in
                   `server.livefeed`; its events are those of the last `stride` ticks
    u16 17 MESH    u16 0, then `LiveMesh.to_bytes`
    u16 18 SHOTS   u16 0, u32 count, then columns: u32 tick[count], u16 player[count] (a row of the index's players)

Page to worker, a line of JSON each on its standard input, at most REQUEST_BYTES_MAX:

    {"op": "open", "file": PATH}                               from the edge only
    {"op": "frames", "id", "first", "last", "stride", "turn"}  frames of these ticks; a request of a later turn (the
                                                               user has gone elsewhere) makes earlier ones void
    {"op": "network", "entity"}                                one player's connection
    {"op": "shot", "number"}                                   the n-th shot explained, from 1
"""

import enum
import struct

__all__ = [
    "CHUNK",
    "FRAMES_PER_CHUNK_MAX",
    "MESSAGE",
    "MESSAGE_BYTES_MAX",
    "REQUESTS_WAITING_MAX",
    "REQUEST_BYTES_MAX",
    "STRIDE_MAX",
    "Binary",
    "Kind",
]

MESSAGE = struct.Struct("<IB")
CHUNK = struct.Struct("<2H3I")
MESSAGE_BYTES_MAX = 64 << 20  # a mesh of a million triangles is the largest
REQUEST_BYTES_MAX = 1024
REQUESTS_WAITING_MAX = 64
FRAMES_PER_CHUNK_MAX = 240
STRIDE_MAX = 64


class Kind(enum.IntEnum):
    """What a message of a worker is."""

    TEXT = 1
    BINARY = 2


class Binary(enum.IntEnum):
    """The first two bytes of a binary message."""

    CHUNK = 16
    MESH = 17
    SHOTS = 18
