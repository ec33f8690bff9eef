"""Packet headers: prefix, sequence bytes and sequence of 4,096 datagrams in one batch, as `Host.receive` reads them.

Value: nanoseconds per header, median of rounds. Reference: a figure published for a header parse in Go.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from net.datagrams import Datagrams
from net.packets import FROM_CLIENT
from tools.bench.harness import Row, median_us, row
from tools.bench.table_kernels import parse_all

__all__ = ["run"]

DATAGRAMS = 4096
PUBLISHED_NS = 200.0
ALLOWED = sum(1 << kind for kind in FROM_CLIENT)


def run(_data: Sequence[Path]) -> list[Row]:
    """One batch of payload packets with sequences of one to four bytes."""
    random, batch = np.random.default_rng(5), Datagrams(DATAGRAMS)
    expected = 0
    for _ in range(DATAGRAMS):
        size = int(random.integers(1, 5))
        sequence = random.bytes(size)
        batch.append(bytes([size << 4 | 5]) + sequence + bytes(100), batch.address[0])
        expected += int.from_bytes(sequence, "little") + 5 + 1 + size
    assert parse_all(batch.data, batch.length, ALLOWED) == expected
    times = median_us({"parse": lambda: parse_all(batch.data, batch.length, ALLOWED)}, rounds=101)
    return [
        row(
            "parse", times["parse"] * 1e3 / DATAGRAMS, unit="ns", reference="header parse in Go, published",
            reference_value=PUBLISHED_NS,
        )
    ]  # fmt: skip
