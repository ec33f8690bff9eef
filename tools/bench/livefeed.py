"""What the live feed costs the tick thread: one `publish`, against pickling the same arrays for a queue."""

import pickle
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from server.livefeed import EVENT, PICKUP, PLAYER, PROJECTILE, STAGE, FeedInfo, LiveFeedWriter
from server.livereader import LiveFeedReader
from sim.arrays import AnyArray
from tools.bench.harness import Row, median_us, row

__all__ = ["run"]

SIZES = (200, 1000)
INFO = FeedInfo("bench", "none", 60, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _read_newest(reader: LiveFeedReader) -> bytes | None:
    return reader.read(reader.newest)


def run(_data: Sequence[Path]) -> list[Row]:
    """Rows for a frame of each size: publish, with pickle as the reference, and read."""
    rows = []
    for count in SIZES:
        arrays: dict[str, AnyArray] = {
            "players": np.zeros(count, PLAYER),
            "projectiles": np.zeros(count // 4, PROJECTILE),
            "pickups": np.zeros(40, PICKUP),
            "events": np.zeros(count // 2, EVENT),
            "stages": np.zeros(16, STAGE),
        }
        with LiveFeedWriter(f"bench-{secrets.token_hex(8)}", INFO, now_ns=1) as writer:
            reader = LiveFeedReader(writer.path.name.removeprefix("hitreg-").removesuffix(".feed"))
            publish: Callable[[], object] = partial(writer.publish, tick=1, wall_ns=1, **arrays)
            publish()
            times = median_us(
                {
                    "publish": publish,
                    "pickle": partial(pickle.dumps, arrays, protocol=pickle.HIGHEST_PROTOCOL),
                    "read": partial(_read_newest, reader),
                },
                rounds=15,
                inner=50,
            )
        rows.append(
            row(f"{count} players publish", times["publish"], reference="pickle", reference_value=times["pickle"])
        )
        rows.append(row(f"{count} players read", times["read"]))
    return rows
