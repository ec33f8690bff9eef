"""Join in progress: whoever asks for it gets the state of the zone as one block, then what changes after it.

    asked -> offered     a block of the state at a tick is on its way (`net.blocks`), paced by what snapshots leave over
    offered -> told      it was delivered whole: sections tell what changed since its tick (`server.zone_state`)
    offered -> asked     it was refused or lost; after `ATTEMPTS_MAX` times the client is left alone, and counted
    told -> asked        so much has changed that sections would take longer than a block
    any -> nothing       the client has gone

A block is built on the tick thread: packing and compressing 4,000 entities of twelve columns takes 1 to 2 ms, once per
`BLOCK_TICKS` and set of dictionaries, whoever joins then; a thread would have to copy the state first, which is a
quarter of that. Blocks are kept `BLOCK_TICKS` long, at most `BLOCKS_MAX` of them; a client with yet another set of
dictionaries gets one without any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from net.blocks import FinishedBlock, Outcome
from net.compression import Compressor
from net.dictionaries import PayloadClass, agreed
from net.zone import JOIN_TAG
from server.zone_state import ZoneState
from sim.arrays import I64

__all__ = ["BlockSender", "ZoneJoins"]

BLOCK_TICKS = 30
BLOCKS_MAX = 4
OFFERS_MAX = 128  # blocks under way at once; who comes later waits
ATTEMPTS_MAX = 3


class BlockSender(Protocol):
    """What carries blocks to clients: `server.transport.Transport`."""

    def offer(self, client: int, content: bytes, *, tag: int, now_ns: int) -> int:
        """Begin to send a block; the transfer's number, or −1 where too many are under way."""

    def take_finished(self) -> list[FinishedBlock]:
        """How the blocks ended that did since the last call."""


@dataclass(frozen=True, slots=True)
class _Block:
    tick: int
    content: bytes


class ZoneJoins:
    """Brings newcomers to what everyone knows.

    Attributes:
        built: Blocks made.
        block_bytes: Bytes of the last one, compressed.
        delivered: Joins completed.
        failed: Clients left alone after `ATTEMPTS_MAX` blocks.
    """

    def __init__(self, state: ZoneState, transport: BlockSender, compressor: Compressor) -> None:
        self._state, self._transport, self._compressor = state, transport, compressor
        self._waiting: dict[int, None] = {}  # clients, oldest first
        self._offers: dict[int, tuple[int, int]] = {}  # by transfer: client, tick
        self._agreed: list[tuple[int, ...]] = [()] * state.clients
        self._attempts: I64 = np.zeros(state.clients, np.int64)
        self._blocks: dict[tuple[int, ...], _Block] = {}
        self.built = self.block_bytes = self.delivered = self.failed = 0

    def ask(self, client: int, dictionaries: Sequence[int]) -> None:
        """Begin to tell a client of the zone.

        Args:
            client: Who asks.
            dictionaries: Ids of those it has.
        """
        self._agreed[client] = agreed(self._compressor.ids, dictionaries)
        self._attempts[client] = 0
        if self._state.layout.words:
            self._waiting[client] = None

    def leave(self, client: int) -> None:
        """Forget a client."""
        self._waiting.pop(client, None)
        self._offers = {number: offer for number, offer in self._offers.items() if offer[0] != client}
        self._state.leave(client)

    def advance(self, now_ns: int) -> None:
        """Follow the blocks under way and offer new ones; once per tick, after the commit, before packets are made."""
        if not self._state.layout.words:
            return
        for finished in self._transport.take_finished():
            self._settle(finished)
        for client in self._state.behind().tolist():
            self._state.leave(client)
            self._waiting[client] = None
        for client in list(self._waiting):
            if len(self._offers) >= OFFERS_MAX:
                break
            block = self._block(self._agreed[client])
            number = self._transport.offer(client, block.content, tag=JOIN_TAG, now_ns=now_ns)
            if number < 0:
                break
            del self._waiting[client]
            self._offers[number] = client, block.tick

    def _settle(self, finished: FinishedBlock) -> None:
        client, tick = self._offers.pop(finished.transfer, (-1, 0))
        if client < 0:
            return
        if finished.outcome is Outcome.DELIVERED:
            self.delivered += 1
            self._attempts[client] = 0
            self._state.begin(client, tick)
            return
        self._attempts[client] += 1
        if self._attempts[client] < ATTEMPTS_MAX and finished.outcome is not Outcome.PEER_LEFT:
            self._waiting[client] = None
        else:
            self.failed += 1

    def _block(self, known: tuple[int, ...]) -> _Block:
        """The block for clients with these dictionaries."""
        tick = self._state.tick
        self._blocks = {ids: block for ids, block in self._blocks.items() if tick - block.tick < BLOCK_TICKS}
        if known not in self._blocks and len(self._blocks) >= BLOCKS_MAX:
            known = ()
        block = self._blocks.get(known)
        if block is None:
            plain, rows = self._state.join_block()
            content = self._compressor.compress(plain, PayloadClass.JOIN, agreed=known, part_bytes=rows)
            block = self._blocks[known] = _Block(tick, content)
            self.built += 1
            self.block_bytes = len(content)
        return block

    def statistics(self) -> dict[str, int]:
        """Counts since the start, and what is under way."""
        return {
            "joins_waiting": len(self._waiting),
            "joins_under_way": len(self._offers),
            "joins_delivered": self.delivered,
            "joins_failed": self.failed,
            "join_blocks_built": self.built,
            "join_block_bytes": self.block_bytes,
            **self._state.counts(),
        }
