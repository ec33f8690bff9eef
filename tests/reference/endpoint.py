"""The endpoint written down plainly, for one peer: what `net.endpoint` does, packet by packet, in dictionaries.

Pool and inbox have no bounds here, and blocks do not exist. Congestion control is not written again: its helpers are
called one event at a time, on columns of the twin's own.
"""

from collections import Counter
from dataclasses import dataclass, field

from net.blocks_kernels import CHUNKS_MAX
from net.congestion import Congestion, CongestionLimits
from net.congestion_kernels import TOKENS, on_ack, on_loss, on_send, refill, reset_peer
from net.endpoint_kernels import EndpointCount
from sim.schema import Delivery

__all__ = ["EndpointTwin"]

Count = EndpointCount
LIVE, LOST, ACKED, FORGOTTEN = "live", "lost", "acked", "forgotten"


@dataclass
class Item:
    content: bytes
    more: bool
    due: bool = True
    was_sent: bool = False


@dataclass
class Sent:
    at_us: int
    size: int
    eliciting: bool
    items: list[int]
    status: str = LIVE


@dataclass
class Section:
    kind: int
    more: bool
    number: int
    content: bytes


@dataclass
class EndpointTwin:
    """One side of one connection."""

    limits: CongestionLimits
    now_us: int
    first: int = 0
    counts: Counter[EndpointCount] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.congestion = Congestion(1, limits=self.limits)
        self.congestion.active[0] = 1
        self.control = self.congestion.columns
        reset_peer(self.control, 0, self.now_us)
        self.next_sequence = self.base = self.next_item = self.number_out = self.next_in = self.first
        self.sent: dict[int, Sent] = {}
        self.largest_acked = -1
        self.newest_in: int | None = None
        self.seen: set[int] = set()  # 16-bit sequences among the last 33
        self.newest_at = 0
        self.acked_out = 0
        self.saved: list[tuple[int, int]] = []
        self.pending = self.pending_at = 0
        self.backoff, self.progress_us, self.item_sent_us = 0, self.now_us, 0
        self.window: dict[int, Item] = {}
        self.waiting: list[Item] = []
        self.plain: list[tuple[bytes, bool]] = []
        self.number_in = -1
        self.arrived: dict[int, tuple[bytes, bool]] = {}
        self.next_delivery = self.first
        self.rtt = self.variation = self.latest = self.jitter = 0
        self.loss = 0
        self.samples: list[tuple[int, int]] = []
        self.minima = [self.now_us, 0, 0]
        self.payloads: list[bytes] = []
        self.messages: list[bytes] = []
        self.closes: list[tuple[int, str]] = []
        self.close_heard = False
        self.events: list[tuple[bool, int, int, int]] = []

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive(self, packets: list[tuple[bytes, int]], now_ns: int) -> None:
        self.now_us = now_ns // 1000
        self.payloads, self.messages = [], []
        for packet, at_ns in packets:
            reason = self._take(packet, at_ns // 1000)
            if reason is not None:
                self.counts[reason] += 1
        self._tell_events()

    def _parse(self, body: bytes) -> list[Section] | None:
        sections = []
        while body:
            head, body = body[0], body[1:]
            kind, more, last = head & 15, bool(head & 16), bool(head & 128)
            fixed = {1: 0, 2: 2, 3: 2, 4: 4, 5: 1}.get(kind)
            if fixed is None or head & 96 or (more and kind != 3) or len(body) < fixed + (0 if last else 2):
                return None
            number, body = int.from_bytes(body[:fixed], "little"), body[fixed:]
            size = len(body)
            if not last:
                size, body = int.from_bytes(body[:2], "little"), body[2:]
            largest = {1: 1200, 2: 1200, 3: 1024, 4: 1024, 5: 200}[kind]
            if size > min(largest, len(body)) or (size == 0 and kind != 5):
                return None
            sections.append(Section(kind, more, number, body[:size]))
            body = body[size:]
        return sections

    def _missing(self) -> int:
        item = self.next_delivery
        while item in self.arrived:
            item += 1
        return item

    def _take(self, packet: bytes, at_us: int) -> EndpointCount | None:
        sections = self._parse(packet[9:]) if len(packet) >= 9 else None
        if sections is None:
            return Count.MALFORMED
        sequence = int.from_bytes(packet[:2], "little")
        if self.newest_in is not None:
            behind = (self.newest_in - sequence) & 0xFFFF
            if sequence in self.seen:
                return Count.DUPLICATE
            if 33 <= behind <= 0x8000:
                return Count.OLD
        missing = self._missing()
        if any(s.kind == 3 and 64 <= (s.number - missing) & 0xFFFF < 0x8000 for s in sections):
            return Count.BEYOND_WINDOW
        if any(s.kind == 4 and s.number >> 16 >= CHUNKS_MAX for s in sections):
            return Count.MALFORMED
        self._note(sequence, at_us)
        if sections:
            if not self.pending:
                self.pending_at = self.now_us
            self.pending += 1
        ack, mask = int.from_bytes(packet[2:4], "little"), int.from_bytes(packet[4:8], "little")
        self._take_ack(ack, mask, packet[8], at_us)
        self.counts[Count.PACKETS_IN] += 1
        self.counts[Count.BYTES_IN] += len(packet)
        for section in sections:
            self._apply(section)
        return None

    def _note(self, sequence: int, at_us: int) -> None:
        if self.newest_in is None:
            self.acked_out = sequence - 1
        elif (sequence - self.newest_in) & 0xFFFF >= 0x8000:
            self.seen.add(sequence)
            return
        elif (sequence - self.acked_out) & 0xFFFF > 33 and len(self.saved) < 4:
            self.saved.append((self.newest_in, self._mask()))
            self.acked_out = self.newest_in
        self.newest_in, self.newest_at = sequence, at_us
        self.seen = {seen for seen in self.seen | {sequence} if (sequence - seen) & 0xFFFF <= 32}

    def _mask(self) -> int:
        newest = self.newest_in or 0
        return sum(1 << bit for bit in range(32) if (newest - 1 - bit) & 0xFFFF in self.seen)

    def _apply(self, section: Section) -> None:
        if section.kind == 1:
            self.payloads.append(section.content)
        elif section.kind == 2:
            if self.number_in >= 0 and not 0 < (section.number - self.number_in) & 0xFFFF < 0x8000:
                self.counts[Count.STALE] += 1
            else:
                self.number_in = section.number
                self.payloads.append(section.content)
        elif section.kind == 3:
            self._take_item(section)
        elif section.kind == 5 and not self.close_heard:
            self.close_heard = True
            self.counts[Count.CLOSES_IN] += 1
            self.closes.append((section.number, section.content.decode(errors="replace")))

    def _take_item(self, section: Section) -> None:
        missing = self._missing()
        ahead = (section.number - missing) & 0xFFFF
        item = missing + ahead
        if ahead >= 64 or item in self.arrived:
            self.counts[Count.ITEMS_DUPLICATE] += 1
            return
        self.counts[Count.ITEMS_IN] += 1
        self.arrived[item] = (section.content, section.more)
        while True:
            end = self.next_delivery
            while end in self.arrived and self.arrived[end][1] and end - self.next_delivery < 31:
                end += 1
            if end not in self.arrived:
                return
            parts = [self.arrived.pop(at) for at in range(self.next_delivery, end + 1)]
            self.next_delivery = end + 1
            if parts[-1][1]:
                self.counts[Count.TOO_LONG] += 1
            else:
                self.counts[Count.MESSAGES_IN] += 1
                self.messages.append(b"".join(content for content, _ in parts))

    # -- acknowledgements -------------------------------------------------------------------------------------------

    def _take_ack(self, ack: int, mask: int, delay: int, at_us: int) -> None:
        if (ack, mask) == (0xFFFF, 0):
            return
        behind = (self.next_sequence - 1 - ack) & 0xFFFF
        newest = self.next_sequence - 1 - behind
        if behind >= 0x8000 or newest < self.first:
            self.counts[Count.ACK_INVALID] += 1
            return
        if behind >= 256:
            self.counts[Count.ACK_OLD] += 1
            return
        sample = 0
        named = self.sent[newest]
        if named.status != ACKED and delay != 255:
            sample = max(1, max(0, at_us - named.at_us) - 250 * delay)
            self._sample(sample * 1000, at_us)
        names = [newest - 1 - bit for bit in reversed(range(32)) if mask >> bit & 1]
        if any(sequence < self.first for sequence in names):
            self.counts[Count.ACK_INVALID] += 1
        for sequence in names:
            if sequence >= self.first and self.next_sequence - sequence <= 256:
                self._settle_acked(sequence, 0)
        self._settle_acked(newest, sample)
        self.largest_acked = max(self.largest_acked, newest)
        self._detect()

    def _sample(self, sample: int, at_us: int) -> None:
        if not self.rtt:
            self.rtt, self.variation = sample, sample // 2
        else:
            self.variation += (abs(self.rtt - sample) - self.variation) // 4
            self.jitter += (abs(sample - self.latest) - self.jitter) // 16
            self.rtt += (sample - self.rtt) // 8
        self.latest = sample
        since, now, before = self.minima
        if at_us - since >= 5_000_000:
            since, now, before = at_us, 0, now
        self.minima = [since, min(now or sample, sample), before]

    @property
    def rtt_min(self) -> int:
        return min((value for value in self.minima[1:] if value), default=0)

    def _settle_acked(self, sequence: int, sample_us: int) -> None:
        sent = self.sent[sequence]
        if sent.status == ACKED:
            return
        self.counts[Count.ACKED] += 1
        self.backoff, self.progress_us = 0, self.now_us
        if sent.status == LIVE:
            self.loss -= self.loss // 64
        else:
            self.counts[Count.SPURIOUS] += 1
            sample_us = sample_us or -1
        sent.status = ACKED
        if sent.eliciting:
            self.events.append((True, sent.size, sent.at_us, sample_us))
        for item in sent.items:
            self.window.pop(item, None)
        while self.base < self.next_item and self.base not in self.window:
            self.base += 1

    def _settle_lost(self, sequence: int) -> None:
        sent = self.sent[sequence]
        sent.status = LOST
        self.counts[Count.LOST] += 1
        self.loss += ((1 << 30) - self.loss) // 64
        if sent.eliciting:
            self.events.append((False, sent.size, 0, 0))
        for item in sent.items:
            if item in self.window:
                self.window[item].due = True

    def _tell_events(self) -> None:
        for acked, size, at_us, sample in self.events:
            if acked:
                on_ack(self.control, 0, size, at_us, self.now_us, sample)
            else:
                on_loss(self.control, 0, size, self.now_us)
        self.events.clear()

    def _live(self) -> list[int]:
        return [sequence for sequence, sent in sorted(self.sent.items()) if sent.status == LIVE]

    def _detect(self) -> None:
        slowest = max(self.rtt, self.latest)
        patience = max(slowest + slowest // 8, 1_000_000) // 1000
        for sequence in self._live():
            if sequence > self.largest_acked - 3 or self.now_us - self.sent[sequence].at_us <= patience:
                return
            self._settle_lost(sequence)

    def _probe(self) -> None:
        smooth, variation = (self.rtt, self.variation) if self.rtt else (333_000_000, 166_500_000)
        probe = smooth + max(4 * variation, 1_000_000) + 50_000_000
        limit = max(probe, min(probe << self.backoff, 2_000_000_000)) // 1000
        if not self._live() or self.now_us - self.progress_us <= limit:
            return
        old = [sequence for sequence in self._live() if self.now_us - self.sent[sequence].at_us > limit]
        for sequence in old:
            if self.sent[sequence].eliciting:
                self._settle_lost(sequence)
            else:
                self.sent[sequence].status = FORGOTTEN
        if any(self.sent[sequence].eliciting for sequence in old):
            self.counts[Count.PROBES] += 1
            self.backoff, self.progress_us = min(6, self.backoff + 1), self.now_us

    # -- out --------------------------------------------------------------------------------------------------------

    def tell(self, payload: bytes, delivery: Delivery) -> bool:
        if delivery != Delivery.RELIABLE:
            if len(self.plain) >= 16:
                self.counts[Count.QUEUE_FULL] += 1
                return False
            self.plain.append((payload, delivery == Delivery.SEQUENCED))
            return True
        parts = [payload[at : at + 1024] for at in range(0, len(payload), 1024)]
        queued = [*self.window.values(), *self.waiting]
        if len(queued) + len(parts) > 128 or sum(len(item.content) for item in queued) + len(payload) > 65_536:
            self.counts[Count.QUEUE_FULL] += 1
            return False
        self.waiting += [Item(part, at + 1 < len(parts)) for at, part in enumerate(parts)]
        self.counts[Count.MESSAGES_OUT] += 1
        return True

    def _tokens(self) -> float:
        return float(self.control[0, TOKENS])

    def _items_allowed(self) -> bool:
        due = any(item.due for item in self.window.values())
        return due and (self._tokens() > 0 or self.now_us - self.item_sent_us >= 100_000)

    def compose(self, payloads: list[bytes], now_ns: int) -> list[bytes]:
        self.now_us = now_ns // 1000
        self.congestion.share(now_ns)
        if any(sequence <= self.largest_acked - 3 for sequence in self._live()):
            self._detect()
        self._probe()
        self._tell_events()
        refill(self.control, 0, self.now_us)
        while self.waiting and self.next_item - self.base < 64:
            self.window[self.next_item] = self.waiting.pop(0)
            self.next_item += 1
        packets = [self._packet(b"", [], ack=saved) for saved in self.saved]
        self.saved = []
        for payload in payloads:
            body, items = self._fill(1200 - 9 - 1 - len(payload))
            packets.append(self._packet(body + b"\x81" + payload, items))
        for _ in range(24):
            owed = self.pending >= 16 or (self.pending and self.now_us - self.pending_at >= 50_000)
            if self.plain or self._items_allowed():
                packets.append(self._packet(*self._fill(1200 - 9)))
            elif owed:
                packets.append(self._packet(b"", []))
            else:
                break
        self._tell_events()
        return packets

    def _fill(self, room: int) -> tuple[bytes, list[int]]:
        body = b""
        while self.plain:
            payload, sequenced = self.plain[0]
            section = b"\x02" + (self.number_out & 0xFFFF).to_bytes(2, "little") if sequenced else b"\x01"
            section += len(payload).to_bytes(2, "little") + payload
            if len(body) + len(section) > room:
                break
            self.number_out += 1 if sequenced else 0
            body += section
            self.plain.pop(0)
        items: list[int] = []
        small = not self._items_allowed()
        if small:
            room = min(room, len(body) + 256)
        for number, item in sorted(self.window.items()):
            if items and ((self._tokens() <= 0 and not small) or number - items[0] >= 32):
                break
            section = bytes([19 if item.more else 3]) + (number & 0xFFFF).to_bytes(2, "little")
            section += len(item.content).to_bytes(2, "little") + item.content
            if item.due and len(body) + len(section) <= room:
                body += section
                items.append(number)
                self.counts[Count.ITEMS_RESENT if item.was_sent else Count.ITEMS_OUT] += 1
                item.due, item.was_sent = False, True
        if items and not small:
            self.item_sent_us = self.now_us
        return body, items

    def _packet(self, body: bytes, items: list[int], *, ack: tuple[int, int] | None = None) -> bytes:
        newest, mask = (0xFFFF, 0) if self.newest_in is None else (self.newest_in, self._mask())
        delay = 255 if self.newest_in is None else min(255, max(0, (self.now_us - self.newest_at) // 250))
        if ack is None:
            self.pending = 0
        else:
            (newest, mask), delay = ack, 255
        if self.newest_in is not None:
            self.acked_out = self.newest_in
        overwritten = self.sent.pop(self.next_sequence - 256, None)
        if overwritten is not None and overwritten.status == LIVE:
            self.sent[self.next_sequence - 256] = overwritten
            self._settle_lost(self.next_sequence - 256)
            del self.sent[self.next_sequence - 256]
        header = (self.next_sequence & 0xFFFF).to_bytes(2, "little") + newest.to_bytes(2, "little")
        packet = header + mask.to_bytes(4, "little") + bytes([delay]) + body
        self.sent[self.next_sequence] = Sent(self.now_us, len(packet), bool(body), items)
        self.next_sequence += 1
        self.counts[Count.BARE_OUT] += 0 if body else 1
        self.counts[Count.PACKETS_OUT] += 1
        self.counts[Count.BYTES_OUT] += len(packet)
        on_send(self.control, 0, len(packet), self.now_us)
        return packet
