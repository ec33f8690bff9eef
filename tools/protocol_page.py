"""The page docs/protocol.md: prose of its own, tables from the declarations that the code uses."""

from collections.abc import Iterable, Sequence

from net.address import parse_address
from net.blocks import Answer
from net.closing import CloseCode
from net.endpoint_kernels import ITEMS_PER_MESSAGE_MAX, PACKET_BYTES_MAX, WINDOW_ITEMS
from net.inputs import FLOOD_COMMANDS_MAX, FUTURE_TICKS_MAX
from net.limits import ADDRESS_CONNECTIONS_MAX, ADDRESS_CONNECTS_PER_S
from net.messages import GAME_NUMBERS, MessageForm, message_forms
from net.moments import EXTRAPOLATION_NS_MAX
from net.moments_kernels import SETTLE_CLAIMS
from net.packets import Kind, request_packet, seal_packet
from net.records import build_lengths
from net.schema import LAYOUTS, Layout, layout
from net.snapshots import FieldTable
from net.tokens import issue_token, read_token
from server.actions import MESSAGES_PER_SECOND_MAX
from server.game import load_game
from server.tickets import WIRE_VERSION
from server.wire import field_table, owner_layout
from sim.plugin import GameSpec
from sim.schema import MESSAGE_BYTES, Delivery, Direction, Field, FieldType
from tools.protocol_movers import movers_chapter
from tools.protocol_zone import compression_chapter, zone_chapter

__all__ = ["example", "protocol_page"]

TICK_HZ = 60  # of the tables that depend on it

INTRODUCTION = f"""\
What a client must do to play, in the order of a connection's life; enough to write one from. A client needs UDP,
ChaCha20-Poly1305 (libsodium's IETF form) and msgpack. `tests/net/document_client.py` holds one of some 400 lines,
written from this page alone, and lets it play on a real server.

Everything is little endian and without padding, unless said otherwise. `u8` to `u64` are unsigned, `i8` to `i32`
signed (two's complement), `f64` is an IEEE double. Hexadecimal bytes are in their order on the wire. This is
version {WIRE_VERSION} of hitreg's own part, on top of [netcode
1.02](https://github.com/mas-bandwidth/netcode/blob/main/STANDARD.md).

    UDP datagram                          1 to 1,225 bytes
    └ netcode packet                      handshake, keep-alive, disconnect; or a payload, sealed
      └ packet                            9 to {PACKET_BYTES_MAX:,} bytes: header with acknowledgements, then sections
        ├ PLAIN, SEQUENCED section        an application payload: COMMAND, SNAPSHOT, MESSAGE
        ├ RELIABLE section                an item of the reliable stream, of which payloads are put together
        ├ CHUNK section                   a piece of a block of up to 16 MiB
        └ CLOSE section                   why the connection ends
"""

TOKENS = """\
Somebody the server trusts (the edge process, `hitreg token`, `ServerCard.token`) gives the player a **connect
token** of 2,048 bytes. A client reads from it where to connect and two keys, and passes on the sealed private part.
A token is good for one connection: it is consumed when its client gets a slot, and refused from then on. To
reconnect, get another.

An address has seven bytes (IPv4) or nineteen (IPv6). In IPv6 each of the eight groups is a u16, low byte first.

The **private token** is sealed with XChaCha20-Poly1305, key: the server's private key, nonce: the 24 bytes in the
connect token, associated data: `version · protocol_id · expire_unix_s` (13 + 8 + 8 bytes). Clients never open it."""

HANDSHAKE = """\
The first packet, the **request**, has a fixed size of 1,078 bytes; every reply to it is shorter. All other packets
are

    prefix u8 · sequence, 1 to 8 bytes · body, sealed · MAC 16 bytes

sealed with ChaCha20-Poly1305 (IETF), key: `client_to_server_key` from the client, `server_to_client_key` from the
server; nonce: four zero bytes and the sequence as u64; associated data: `version · protocol_id · prefix` (13 + 8 +
1 bytes). Each side counts its sequence up by one per sealed packet, from any number on; a sequence is never used
twice with one key. Keep-alives, payloads and disconnects that were received before, or are 256 or more behind the
newest, are dropped; the window moves only for packets that are authentic. A server counts challenges and denials
from 2^63 + the time of day, so that sequences of its own never repeat either.

A client's states, and what moves it on:

| state | sends | goes on |
|---|---|---|
| requesting | request, every 100 ms | challenge: → responding. Denied: give up, or try the next address |
| responding | response (the challenge's body), every 100 ms | keep-alive: → connected. Denied: as above |
| connected | payloads; a keep-alive after 100 ms of silence | disconnect, or silence for `timeout_s`: over |

Silence for `timeout_s` before that: try the next address of the token; none left, or the token expired: give up.
Leaving: send ten disconnects, all at once. The server repeats keep-alives before every payload until it has heard a
keep-alive or payload of the client. A client that is told nothing at all in answer to its requests has, most
likely, another protocol id: see below. The same client id with another token may connect while its old connection
is up: the old one ends, and the session goes on (`welcome.resumed`), as it does for some time after a connection
was lost."""

PACKETS = """\
The body of every netcode payload packet. Both sides begin with sequence 0 on every connection, and with nothing
received.

**Numbers** of 16 bits are compared by serial arithmetic (RFC 1982): a is newer than b if (a − b) mod 65,536 is from
1 to 32,767.

**Receiving.** Look at the whole packet before anything of it counts. It is malformed, and dropped unacknowledged,
if it is shorter than 9 bytes, a section has an unknown kind or bits 5 or 6 set, MORE on a kind that is not
RELIABLE, is cut short, or has no content (CLOSE may). A packet whose content there is no room for is dropped in the
same way, and comes again. A packet that was received before, or is more than 32 behind the newest and so cannot be
acknowledged any more, is dropped. Everything else counts as received, and from then on `ack` and `ack_mask` say so:
`ack` is the newest sequence received, bit i of the mask means `ack − 1 − i`. Before the first packet: ack 0xFFFF,
mask 0.

**Acknowledging.** Every packet sent carries what was received. A packet with at least one section is to be
acknowledged: within 50 ms, or when 16 of them wait, if need be by a packet that is a header and nothing else. Bare
packets are not to be acknowledged by themselves. Where more than 33 packets arrive between two of one's own, as
while a block is received, the mask does not reach back to all of them: the acknowledgements in between go first, in
bare packets with ack_delay 255.

**Measuring.** When `ack` names a packet for the first time, and ack_delay is not 255, RTT = now − time sent −
ack_delay/4 ms. Smoothed as RFC 6298 has it: variation += (|smooth − RTT| − variation)/4, then smooth += (RTT −
smooth)/8.

**Loss.** A packet is lost when one sent at least 3 later is acknowledged and it is older than 9/8 of the round
trip; or when nothing was acknowledged for smooth + 4·variation + 50 ms (twice that the second time, and so on).
What it carried reliably is sent again in new packets, and nothing else is. A
packet may be acknowledged after all; both sides take that in their stride.

**Rates.** The server sends retransmissions and chunks within a rate that follows loss and growing round trips ([ADR
5](adr/0005-congestion.md)); snapshots are sized by it. A client that sends nothing but commands and now and then a
message needs no control of its own; one that sends blocks does."""

SECTIONS = f"""\
A section begins with a head byte: bits 0–3 kind, bit 4 MORE, bit 7 LAST, the others zero. A section with LAST has
no length and runs to the end of the packet; otherwise a u16 length stands before its content.

**PLAIN**: an application payload of up to 1,190 bytes; it arrives or it does not, in any order.

**SEQUENCED**: the same, but numbered from 0 in each direction: one whose number is not newer than that of the
newest delivered is dropped.

**RELIABLE**: the reliable stream of one direction is a sequence of items numbered from 0 (u16, wrapping), of 1 to
1,024 bytes each. A message of more than 1,024 bytes is several consecutive items, all but the last with MORE set
and full; at most {ITEMS_PER_MESSAGE_MAX} items. Deliver a message when its last item and all items before it are
there. An item that was delivered or is stored is ignored. The sender never has items under way that are
{WINDOW_ITEMS} or more beyond the oldest that is not acknowledged; a receiver may drop packets with items further
than that. An item is done when a packet that carried it is acknowledged.

**CHUNK**: see blocks. **CLOSE**: the connection ends; sent in a few packets just before the disconnects. Tell the
player the text, and do not reconnect at once."""

BLOCKS = """\
For what is larger than a message: up to 16 MiB. OFFER, ANSWER and CANCEL travel as messages of the reliable stream.
The receiver answers an offer; only after answer 0 are chunks sent. Chunk i is bytes 1,024·i to 1,024·i + 1,023 of
the block, the last one what is left. A chunk is done when the packet that carried it is acknowledged, lost with it
otherwise. When all are there, the receiver compares the digest: BLAKE2b with a 16-byte digest, no key. A transfer
without any progress for 60 s is given up by both. A client that wants no blocks answers every offer with 1.
"""

PAYLOADS = """\
The content of a PLAIN or SEQUENCED section, or a whole message of the reliable stream. The first byte is its type:

| type | to the server | to the client |
|---|---|---|
| 1 | COMMAND | SNAPSHOT |
| 2 | MESSAGE | MESSAGE |
| 3, 4, 5 | BLOCK OFFER, ANSWER, CANCEL (reliable only) | the same |
| 6, 7 | – | a packed MESSAGE (reliable only), a packed SNAPSHOT; to those alone who sent `abilities` |
"""

EXTRAPOLATION_MS = EXTRAPOLATION_NS_MAX // 1_000_000

COMMANDS = f"""\
A client sends one COMMAND per tick in a PLAIN section, with its newest input and, in case packets are lost, the two
or more before it (up to 8 in all). Each input belongs to the tick it is numbered with: the step of the server that
makes tick T reads the input of T, or, if it has not come, repeats the last one for 50 ms and lets it fade within
250 ms. What comes later is of no use. Inputs more than {FUTURE_TICKS_MAX} ticks ahead are refused, and so are more
than {FLOOD_COMMANDS_MAX} commands between two ticks. The length is exact: 12 + 9 × inputs, 2 for a claim, 2 for a view.

`snapshot` and `snapshot_mask` say which snapshots were **decoded** and are good as baselines; bit 7 of `count` says
that they hold (it is clear before the first). This is not the packet's acknowledgement, which only says that bytes
arrived.

**Claims.** A client that predicts its own player says what it predicted, and is spared the owner section where that
was right. The claim is a hash over the predicted bytes of the owner section, as the client has them after the input
of `tick` (the newest of the command): FNV-1a of 32 bits, its halves combined.

    h = 2166136261
    for each byte b: h = ((h xor b) · 16777619) mod 2^32        JavaScript: h = Math.imul(h ^ b, 16777619) >>> 0
    claim = (h >> 16) xor (h & 65535)

Bit 6 of `count` is set where there is one; a client that does not predict sends none, and gets every section. What
the server does with it: see the owner section. A claim changes nothing but what this one client is sent.

**Views.** Shots are judged by what their player saw. So a client says which moment of the others it showed when it
made the newest input: bit 5 of `count` is set, and `view` is how far before `tick` that moment was, in 1/256 tick.
Who shows the others between snapshots 1000 and 1002, in the middle, as it makes the input of tick 1011, sends 2,560.
65,535 says that nothing is shown that is known: before the first snapshot, or {EXTRAPOLATION_MS} ms after the last. For
the older inputs of a command the same holds.

The server takes a view as it is where it agrees with what it has measured itself; else it judges by what it thinks
likely, as it does for a client that sends none. Not taken is a moment that is later than the present, or later than
the newest snapshot acknowledged and {EXTRAPOLATION_MS} ms; one that is earlier than round trip, jitter and the time
between snapshots explain; and one that jumps: compared with `tick` the moment may move by a fifth of the time that
passes, and by two ticks at once. A jump that lasts is believed after {SETTLE_CLAIMS:.0f} commands.

No shot is judged by a moment further back than `max_rewind_ms`, which `welcome` says. A client that is further away
shows moments that are not older than that before the tick of its input, by letting the others move on for so long as
they did last: what its player aims at is then what the server judges by.

**Which tick to send.** The client runs ahead of the server, by half a round trip and a margin that the server sets
([ADR 4](adr/0004-run-ahead.md)). Simplest: with a snapshot of tick T, aim at tick T + 6 for the next command and
count up by one per tick time. Then look at `lead` in the snapshots: how early, in 1/16 tick, the newest command
came (−32,768: none came since the last). It should be `target_lead` ticks: run a little faster when it is less, a
little slower when it is more, at most 3 %, and jump when it is off by more than 100 ms. A correction shows in
`lead` a round trip later: wait for it before the next."""

SNAPSHOTS = """\
A payload in a PLAIN section, up to 60 times a second, made of: header; the sections that its flags name, in the order
owner, leave list, zone, event list; records, to the end. Other flags are 0.

Take snapshots in ascending order of their sequence only: one that is older than, or the same as, the newest is
dropped. A snapshot that is malformed, or whose baseline is not there, is dropped as a whole. One that was taken is
acknowledged in the next COMMAND, and only then does the server build on it.

**Slots.** A client has 128 slots for entities. An entity enters a slot with a record of age 0, and leaves by the
leave list (bit 7: it is gone from the world, and not just out of sight). An entity id is 64 bits: slot of the world
(24) | generation << 24 (28 bits) | zone << 52 (12 bits). An entity of which a snapshot has no record goes on as it is
expected to (see Records), or is where it was.

**Records section.** A record for each set bit of the bitmap, in ascending order of slot, in one string of bits: first
a bit, 1 where its age is the common age A, else 0 and 6 bits of age; then its body. Bit i of a string is bit i mod 8
of byte i div 8; numbers are written low bit first. Behind the last record come zeros up to a whole byte, and nothing
more."""

RECORDS = """\
The body of **age 0** is a full state: 24 bits slot of the entity id, its generation in exp-Golomb of order 8, its
zone of order 4; 2 bits *level*. Unless that is 3: the position's three fields raw; 6 bits c; the velocity's three
fields of c bits each, folded. Then a bit for each field of the level from the seventh on, set where the field is not
0, and then each of those raw. All other fields are 0. The level says what records of this slot hold from now on: 0
the fields of level 0, 1 those up to 1, 2 all of them, 3 (the client's own player) all but position and velocity,
which stay 0 and come in the owner section.

The body of **age a > 0** is a difference to the state that this slot's entity had in the snapshot of tick T − a, the
*baseline*, which the client has acknowledged; so keep the states of the last 63 ticks, until the slot is left or
comes to another entity or level. It begins with a symbol, the *shape*, of the code S below. Then, in this order:

1. shape & 1: three numbers, of codes 40 + o; 42 + 2·x + o; 74 + 2·m + o. Each is added to the expected velocity. o is
   1 where order 2 holds, else 0; x the width of the first number; m the greater width of the first two.
2. shape & 2: three numbers, of codes 106 + x; 106 + y; 122 + z, where x, y, z are the widths of the three numbers of
   1, or 0. Each is added to the carried position. (Without these bits, velocity and position are just those.)
3. shape & 4: a number of code 138, and, where there are two angles, one of code 139 + the width of the first; added
   to the angles, which are the fields marked so below.
4. shape & 8: a symbol of code 157. Below 15: the one of the *other* fields (neither motion nor angle, counted from 0)
   that changed; 15: a bit for each of the other fields that the level has, set where one changed. Then each change:
   the new value raw where the field is up to 4 bits wide, else a number that is added, of code 155 up to 10 bits and
   of code 156 beyond.

- *raw*: as many bits as the field is wide, signed fields in two's complement.
- *exp-Golomb of order k*: for u ≥ 0 let v = u + 2^k, and n its number of bits; n − 1 − k zeros, a one, then the low
  n − 1 bits of v.
- *folded* numbers are unsigned: 0, −1, 1, −2, … are 0, 1, 2, 3, …: (v << 1) ^ (v >> 63).
- a *number* of a code: a symbol w, its width, and if that is 15, 5 bits that are added to w; then, if w > 1, the low
  w − 1 bits of a folded number of w bits, whose highest bit is 1. Width 0 is the number 0. In contexts (x, y, z, m) a
  width of more than 15 counts as 15. No number is wider than its field.
- a *symbol* is a prefix code's word. The lengths of all words are below; the words follow from them: take symbols in
  ascending order of (length, symbol); the first word is all zeros; each next is the one before plus 1, with as many
  zeros appended as it is longer. Words are written first bit first.

The code S of the shape is 158 for level 3. Else, with s the number of bits of the largest folded velocity of the
baseline, (5·i + j)·2 + o: i is 0 up to age 4, 1 up to 8, 2 up to 16, 3 beyond; j is 0 where s is 0, else s less the
speed base below, at least 1 and at most 4.

**Expected** is where dead reckoning has an entity t ticks after a state with position p and velocity v, per axis. A
kind of entity has an *order*, and for order 2 accelerations a and b and a condition: field & mask = value. Where it
does not hold, the order is 1. With // for division rounded down, and S the scale below:

- order 0: p and v stay.
- order 1: p + (v·t·S + 32,768) // 65,536; v stays.
- order 2: p + (v·t·S + (a·t·t) // 2 + 32,768) // 65,536; v + (b·t + 32,768) // 65,536.

The *carried* position is p + ((v + w)·t·S + 65,536) // 131,072 with w the new velocity; p where the order is 0.
Nothing exceeds 2^53. All sums are modulo the width of the field, signed ones from −2^(n−1) to 2^(n−1) − 1. A field's
value is integer × step."""

EVENTS = """\
**Events** happened `age` ticks before the snapshot. After age and parts come numbers in LEB128 (7 bits a byte, low
ones first, bit 7: more follows): kind; position x, y, z, folded, in 1/64 m; if there is an actor its id as three
numbers (slot, generation, zone); the same for the target; if there is a vector x, y, z, folded, in 1/256; if there
is a value, folded. Events may be left out when there are too many; those that concern the client's own player go
first. Kinds of the arena:
"""

OWNER = """\
The client's own player, raw and to the last bit, once it plays (before that there is no owner section).
The fields marked predicted are what the motion of a player consists of: a client that computes it the same way
(double precision, only + − × ÷ and √; [determinism](determinism.md), `sim/motion.py`) compares its own state after
the input of tick T with the owner section of the snapshot of tick T, bit by bit. Where they differ it takes over
the server's and plays its inputs since then again. A client that does not predict shows the position as it comes.

There is none, too, where the client needs none: its command of tick T came in time, T was made with its
input, the claim in it is right, and the client has acknowledged a snapshot since the last change of a field that is
not predicted (of an f64, since its whole part changed). So a snapshot of tick T without section, where a claim was
sent for T, says: right. A client that has replaced its state of T since it sent the claim, by a correction, cannot
know whether that is right as well: it sends commands without claims until a section comes. (In one of 65,536 cases
a wrong claim passes; the next ones will not.)"""

MESSAGES = f"""\
Behind the type byte 2 stands one msgpack array: the number of the message, then its fields in the order below. No
maps, no extensions, no nil, no booleans, no array deeper than two, nothing behind it: whoever sends such things is
not understood. Integers and entities are msgpack integers, floats are floats (whole ones may be integers), text is
str in UTF-8 and measured in bytes, bytes are bin. Up to {MESSAGE_BYTES[Delivery.RELIABLE]:,} bytes where they are
sent reliably, {MESSAGE_BYTES[Delivery.UNRELIABLE]:,} otherwise. Numbers below {GAME_NUMBERS} are the core's; the
game's actions follow in the order they are declared, then its messages. What clients send as a message is passed on
with `sender` in front. The server takes each message from a client {MESSAGES_PER_SECOND_MAX} times a second,
actions as often as the table says; what is beyond is dropped and counted.

`welcome` is the first message: from now on the client plays, and gets snapshots.
"""

PROTOCOL = """\
64 bits that differ whenever client and server would not understand each other: the first 8 bytes, as u64, of
BLAKE2b over a canonical text of four parts: the wire format (the layouts on this page), the game (fields, owner
section, kinds, events, messages and actions with their numbers, bounds and delivery), the map and the tick rate.
`server.tickets.describe_protocol` gives the text, the server's card digests of its parts; compare them to see which
part differs. The token carries the id, so a client that is given a token of another server's build can refuse it
before it sends anything.
"""

LIMITS = f"""\
| what | limit | beyond |
|---|---|---|
| connections of one address (IPv6: /64) | {ADDRESS_CONNECTIONS_MAX} | denied |
| new connections of one address | {ADDRESS_CONNECTS_PER_S} a second | dropped; the client repeats anyway |
| silence | `timeout_s` of the token | the connection ends |
| a client's reliable queue full | 5 s | CLOSE {CloseCode.TOO_SLOW.value}, disconnected |
| commands between two ticks | {FLOOD_COMMANDS_MAX} | dropped |
| inputs ahead | {FUTURE_TICKS_MAX} ticks | dropped |
| messages | {MESSAGES_PER_SECOND_MAX} of a kind and second; actions as declared | dropped |

Malformed bytes never end a connection: they are dropped and counted, by reason. Codes of CLOSE sections:
"""

WALK = """\
1. Read the connect token: protocol id, keys, addresses. Make the request from it and send it every 100 ms.
2. On a challenge, which opens with `server_to_client_key`: send its body back as a response, every 100 ms.
3. On a keep-alive: connected. Packet sequence 0, item 0, nothing received.
4. Every tick: make a packet: header, then a PLAIN section (LAST) with a COMMAND. Seal it as a payload. Behind a
   COMMAND whose length is given, RELIABLE sections find room; repeat an item until a packet that carried it is
   acknowledged.
5. On a payload: check the packet, note its sequence for the next header, settle what its ack and mask say. Give
   PLAIN contents of type 1 to the snapshots; put RELIABLE items in order and give whole messages to the messages.
6. `welcome` says which entity is yours. Aim the ticks of your commands by the snapshots' tick and lead.
7. Decode snapshots, acknowledge them in the commands, show what the slots hold, your own player by the owner
   section.
8. On the way out: ten disconnects.
"""


def _rows(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _layout(entry: Layout) -> str:
    """One layout as a table, with its offsets as far as they are fixed."""
    told = []
    for field in entry.fields:
        size = field.type if field.type != "bytes" and field.type != "addresses" else f"{field.type} [{field.size}]"
        doc = field.doc + (f" (left out where {field.optional})" if field.optional else "")
        told.append((entry.offsets.get(field.name, "…"), size, f"`{field.name}`", doc))
    size = f", {entry.size:,} bytes" if entry.size is not None else ""
    parts = [f"**{entry.name}**{size}" + (f". {entry.doc}" if entry.doc else "")]
    if told:
        parts.append(_rows(("offset", "type", "field", ""), told))
    return "\n\n".join(parts)


def _layouts(*names: str) -> str:
    return "\n\n".join(_layout(layout(name)) for name in names)


def _bounds(field: Field) -> str:
    if field.type is FieldType.ENTITY:
        return f"`{field.name}` entity"
    kind = {FieldType.TEXT: "text, bytes", FieldType.BYTES: "bytes", FieldType.LIST: "list"}.get(field.type, field.type)
    held = f" of {_bounds(field.items)}" if field.items is not None else ""
    return f"`{field.name}` {kind} {field.low:,} … {field.high:,}{held}"


def _messages(game: GameSpec, direction: Direction) -> str:
    """Every message that goes one way."""
    rates = {spec.name: spec.per_second_max for spec in game.actions}

    def row(form: MessageForm) -> tuple[object, ...]:
        fields = "; ".join(_bounds(field) for field in form.fields) or "–"
        often = f"{rates[form.name]}" if form.name in rates else "–"
        return form.number, f"`{form.name}`", fields, form.delivery.name.lower(), often, form.doc

    forms = message_forms(game.actions, game.messages, direction)
    if direction is Direction.TO_SERVER:
        return _rows(("number", "name", "fields", "delivery", "a second", ""), map(row, forms))
    return _rows(("number", "name", "fields", "delivery", ""), ((*row(form)[:4], row(form)[5]) for form in forms))


def _fields(table: FieldTable) -> str:
    """The fields, how kinds are reckoned, and the lengths of all codes."""
    told, rows = table.describe(), []
    for number, field in enumerate(table.fields):
        signed, angle = ("yes" if flag else "no" for flag in (field.signed, number in table.angles))
        rows.append((number, f"`{field.name}`", field.bits, signed, f"{field.step:g}", field.level, angle))
    reckoned = [
        (kind, row[0], *(" ".join(map(str, row[i : i + 3])) for i in (1, 4)), *row[7:])
        for kind, row in enumerate(table.codec[2].tolist())
    ]
    codes = ["".join(map(str, row)) for row in build_lengths(table.parts)]
    lines = "\n".join("    " + " ".join(codes[i : i + 6]) for i in range(0, len(codes), 6))
    return "\n\n".join([
        _rows(("field", "name", "width", "signed", "step", "level", "angle"), rows),
        f"Speed base: {told['speed_base']}. The orders of the kinds (a later kind is as the last):",
        _rows(("kind", "order", "a x y z", "b x y z", "field", "mask", "value"), reckoned),
        f"The lengths of the words of codes 0 to {len(codes) - 1}, of symbols 0 to 15 each; 0: there is none:",
        lines,
    ])  # fmt: skip


def _owner() -> str:
    told = owner_layout()
    names = {"f8": "f64", "u2": "u16", "i2": "i16", "u1": "u8"}
    rows = (
        (
            told.offsets[field.name],
            names[field.dtype] + (f" × {field.count}" if field.count > 1 else ""),
            f"`{field.name}`",
            "yes" if field.predicted else "no",
        )
        for field in told.fields
    )
    return _rows(("offset", "type", "field", "predicted"), rows)


def example() -> dict[str, bytes]:
    """The bytes of the worked example, by name."""
    parts = iter((bytes(range(0x40, 0x58)), bytes(range(0x60, 0x80)), bytes(range(0x80, 0xA0))))
    token = issue_token(
        protocol_id=0x1122334455667788, private_key=bytes(range(32)), client_id=1000, now_unix_s=1_700_000_000,
        addresses=[parse_address("203.0.113.7:40000")], expire_s=30, timeout_s=5, user_data=b"\2Ada",
        entropy=lambda _: next(parts),
    )  # fmt: skip
    pressed = layout("input").pack(buttons=1, move_forward=127, yaw=16384, weapon=2)
    command = layout("COMMAND").pack(type=1, count=0x81, snapshot=7, snapshot_mask=1, tick=1234, inputs=pressed)
    header = layout("packet header").pack(sequence=5, ack=9, ack_mask=3, ack_delay=16)
    plain = layout("PLAIN section").pack(head=1, length=len(command), content=command)
    item = layout("RELIABLE section").pack(head=0x83, item=0, content=b"\2\x92\x11\xa2hi")
    read = read_token(token)
    body = header + plain + item
    key = read.client_to_server_key
    sealed = seal_packet(Kind.PAYLOAD, body, sequence=300, key=key, protocol_id=read.protocol_id)
    return {"token": token, "request": request_packet(read), "packet": body, "datagram": sealed}


def _hex(data: bytes) -> str:
    lines = [data[at : at + 32].hex(" ") for at in range(0, len(data), 32)]
    return "\n".join(f"    {line}" for line in lines)


def _example() -> str:
    made = example()
    token = made["token"]
    return f"""\
A token for client 1000 of team 2, called Ada, for a server at 203.0.113.7:40000, protocol id 0x1122334455667788,
made at 1,700,000,000 s for 30 s, time-out 5 s. Its private key is 00 01 … 1f. Bytes 0 to 60, up to the nonce:

{_hex(token[:61])}

and from 1,085, behind the private part: time-out, one address, both keys (the rest is zeros):

{_hex(token[1085:1164])}

Its request begins with

{_hex(made["request"][:54])}

and goes on with the private part of the token, whose first and last 16 bytes are

{_hex(token[61:77] + token[1069:1085])}

A packet of that client: sequence 5, newest received 9 and the two before it, 4 ms ago; a PLAIN section with a COMMAND
of one input (tick 1234, jump, forwards, looking along +Y, weapon 2; snapshots 7 and 6 decoded), and as its last
section item 0 of the reliable stream, which is the whole message `say` with "hi":

{_hex(made["packet"])}

The same as a netcode payload packet with sequence 300, as it goes into the datagram:

{_hex(made["datagram"])}
"""


def _numbered(kinds: Iterable[tuple[int, str]]) -> str:
    return ", ".join(f"{number} {name}" for number, name in kinds)


def protocol_page(note: str) -> str:
    """The page.

    Args:
        note: The line that says where it comes from.
    """
    game = load_game("arena")
    netcode = {entry.name: _layout(entry) for entry in LAYOUTS[0].layouts}
    bodies = [text for name, text in netcode.items() if name.startswith("body")]
    sections = [_layout(entry) for entry in LAYOUTS[1].layouts[1:]]
    answers = _numbered((answer.value, answer.name.lower().replace("_", " ")) for answer in Answer)
    closes = _numbered((code.value, code.name.lower().replace("_", " ")) for code in CloseCode)
    events = _numbered(enumerate(game.events))
    kinds = _numbered(enumerate(kind.name for kind in game.kinds))
    table = field_table(game, tick_hz=TICK_HZ)
    up, down = (_messages(game, direction) for direction in (Direction.TO_SERVER, Direction.TO_CLIENT))
    public = [netcode[name] for name in ("connect token", "address IPv4", "address IPv6", "private token")]
    snapshot = ("SNAPSHOT header", "owner", "leave list", "zone", "event list", "event", "records")
    scale = f"At {TICK_HZ} Hz, S = {table.velocity_scale:,}. Kinds of entities: {kinds}."
    chapters: tuple[tuple[str, list[str]], ...] = (
        ("The protocol", [note, INTRODUCTION]),
        ("Before: the connect token", [TOKENS, *public]),
        ("Connecting", [HANDSHAKE, netcode["request"], netcode["sealed packet"], *bodies, netcode["challenge token"]]),
        ("Packets", [PACKETS, _layouts("packet header")]),
        ("Sections and channels", [SECTIONS, *sections]),
        ("Blocks", [BLOCKS, _layouts("BLOCK OFFER", "BLOCK ANSWER", "BLOCK CANCEL"), f"Answers: {answers}."]),
        ("Application payloads", [PAYLOADS]),
        ("COMMAND", [COMMANDS, _layouts("COMMAND", "input")]),
        ("SNAPSHOT", [SNAPSHOTS, _layouts(*snapshot)]),
        ("Records", [RECORDS]),
        ("Fields of the arena", [scale, _fields(table)]),
        ("Events", [EVENTS, f"{events}."]),
        ("The owner section", [OWNER, _owner()]),
        ("Zone-wide state", zone_chapter(game)),
        ("Movers", movers_chapter()),
        ("Compressed payloads", compression_chapter()),
        ("MESSAGE", [MESSAGES, "To the server:", up, "To the client:", down]),
        ("The protocol id", [PROTOCOL]),
        ("Limits, and what ends a connection", [LIMITS, f"{closes}."]),
        ("An example, byte by byte", [_example()]),
        ("A minimal client", [WALK]),
    )
    text = [
        f"{'#' if number == 0 else '##'} {title}\n\n" + "\n\n".join(p.strip("\n") for p in parts)
        for number, (title, parts) in enumerate(chapters)
    ]
    return "\n\n".join(text) + "\n"
