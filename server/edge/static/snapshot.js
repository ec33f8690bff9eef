// Decodes snapshots in the browser: the layout is the chapters SNAPSHOT and Records of docs/protocol.md.
//
// A decoder is made from the description of a field table (`FieldTable.describe()` as JSON) and keeps what the client
// knows: slots with their entities, and the states of the last 63 ticks that later records may rest on. A snapshot is
// taken whole or not at all, and nothing that is malformed throws. All numbers are exact: none exceeds 2^53.

const SLOTS = 128;
const AGE_MAX = 63;
const SELF = 3;
const HEADER = 12;
const OWNER_MAX = 128;
const PAYLOAD_MAX = 1200;
const OWNER = 1, LEAVES = 2, ZONE = 4, EVENTS = 8;
const VELOCITY_X = 40, VELOCITY_Y = 42, VELOCITY_Z = 74, POSITION_XY = 106, POSITION_Z = 122;
const ANGLE_A = 138, ANGLE_B = 139, NARROW = 155, WIDE = 156, SINGLE = 157, SHAPE_SELF = 158;
const ESCAPE = 15;
const EVENT_POSITION = 64, EVENT_VECTOR = 256;

class Malformed extends Error {}

function fail(reason) {
  throw new Malformed(reason);
}

/** How many bits a whole number below 2^32 needs; 0 for 0. */
function widthOf(value) {
  return 32 - Math.clz32(value);
}

/** 0, 1, 2, 3, … become 0, −1, 1, −2, …. */
function unfold(value) {
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

function folded(value) {
  return value >= 0 ? 2 * value : -2 * value - 1;
}

/** A sum modulo 2^bits, as a field of that width holds it. */
function wrapped(value, bits, signed) {
  const size = 2 ** bits;
  const held = ((value % size) + size) % size;
  return signed && held >= size / 2 ? held - size : held;
}

/** Symbols by the next eight bits: symbol · 16 + length of its word; words are canonical and written first bit first. */
function readTable(lengths) {
  const table = new Uint8Array(256);
  const symbols = lengths.map((length, symbol) => [length, symbol]).filter(([length]) => length > 0);
  symbols.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let word = 0, last = 0;
  for (const [length, symbol] of symbols) {
    word <<= length - last;
    last = length;
    let reversed = 0;
    for (let i = 0; i < length; i++) reversed |= ((word >> i) & 1) << (length - 1 - i);
    for (let entry = reversed; entry < 256; entry += 1 << length) table[entry] = (symbol << 4) | length;
    word += 1;
  }
  return table;
}

class Bits {
  constructor(data) {
    this.data = data;
    this.at = 0;
    this.size = 8 * data.length;
  }

  /** The next `count` ≤ 32 bits. */
  raw(count) {
    if (this.at + count > this.size) fail("cut short");
    const value = this.peek(count);
    this.at += count;
    return value;
  }

  peek(count) {
    let value = 0, scale = 1, left = count, at = this.at;
    while (left > 0) {
      const taken = Math.min(left, 8 - (at & 7));
      const byte = at < this.size ? this.data[at >> 3] : 0;
      value += ((byte >> (at & 7)) & ((1 << taken) - 1)) * scale;
      scale *= 2 ** taken;
      at += taken;
      left -= taken;
    }
    return value;
  }

  symbol(table) {
    const entry = table[this.peek(8)];
    const length = entry & 15;
    if (length === 0 || this.at + length > this.size) fail("no such word");
    this.at += length;
    return entry >> 4;
  }

  golomb(order, bits) {
    let zeros = 0;
    while (this.raw(1) === 0) zeros += 1;
    if (zeros + order > bits) fail("number too wide");
    const value = this.raw(zeros + order) + 2 ** (zeros + order) - 2 ** order;
    return value < 2 ** bits ? value : fail("number too wide");
  }
}

class Bytes {
  constructor(data, at) {
    this.data = data;
    this.at = at;
  }

  u8() {
    return this.at < this.data.length ? this.data[this.at++] : fail("cut short");
  }

  take(count) {
    if (this.at + count > this.data.length) fail("cut short");
    this.at += count;
    return this.data.subarray(this.at - count, this.at);
  }

  /** A number in LEB128, as a BigInt: values may have 62 bits. */
  varint() {
    let value = 0n;
    for (let i = 0n; i < 9n; i++) {
      const byte = this.u8();
      value |= BigInt(byte & 127) << (7n * i);
      if (byte < 128) return value;
    }
    return fail("number too long");
  }

  folded() {
    const value = this.varint();
    return Number(value & 1n ? -((value + 1n) / 2n) : value / 2n);
  }

  entity() {
    const [slot, generation, zone] = [this.varint(), this.varint(), this.varint()];
    if (slot >> 24n || generation >> 28n || zone >> 12n) fail("not an entity");
    return slot | (generation << 24n) | (zone << 52n);
  }
}

/** What one client knows of the world. */
export class SnapshotDecoder {
  /** `schema` is a described field table. */
  constructor(schema) {
    this.schema = schema;
    this.bits = schema.fields.map((field) => field.bits);
    this.signed = schema.fields.map((field) => field.signed);
    this.others = schema.fields.map((_, f) => f).filter((f) => f >= 6 && !schema.angles.includes(f));
    this.tables = schema.lengths.map(readTable);
    this.reset();
  }

  /** Forget everything, as for a new connection. */
  reset() {
    this.sequence = -1;
    this.ackMask = 0;
    this.tick = 0;
    this.inputTick = 0;
    this.slots = new Array(SLOTS).fill(null);
  }

  /**
   * Take a snapshot. Returns null where it is stale or malformed, which changes nothing; else its header, `owner` and
   * `zone` bytes (null: none), `left` slots, `changed` slots and `events`. `entities()` then has what is known.
   */
  decode(data) {
    try {
      return this.#decode(data);
    } catch (error) {
      if (error instanceof Malformed) return null;
      throw error;
    }
  }

  /** Every entity known: slot, id (BigInt), level, tick of its state, and the state, one integer per field. */
  entities() {
    const found = [];
    this.slots.forEach((held, slot) => {
      if (held) found.push({ slot, id: held.id, level: held.level, tick: held.tick, fields: held.states.get(held.tick) });
    });
    return found;
  }

  #decode(data) {
    const head = this.#head(data);
    const bytes = new Bytes(data, HEADER);
    head.owner = head.flags & OWNER ? this.#owner(bytes) : null;
    const leaves = head.flags & LEAVES ? this.#counted(bytes, bytes.u8()) : [];
    head.zone = head.flags & ZONE ? this.#counted(bytes, bytes.u8() + 256 * bytes.u8()) : null;
    head.events = head.flags & EVENTS ? this.#events(bytes, head.tick) : [];
    head.left = Array.from(leaves, (entry) => ({ slot: entry & 127, gone: entry > 127 }));
    const records = this.#records(bytes, head.tick, new Set(head.left.map((leave) => leave.slot)));
    this.#keep(head, records);
    head.changed = records.map((record) => record.slot);
    return head;
  }

  #head(data) {
    if (data.length < HEADER + 1 || data.length > PAYLOAD_MAX || data[0] !== 1 || data[1] > 15) fail("no snapshot");
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const [sequence, tick, age] = [view.getUint16(2, true), view.getUint32(4, true), data[8]];
    if (tick === 0 || tick > 0x7fffffff) fail("no tick");
    if (this.sequence >= 0) {
      const ahead = (sequence - this.sequence) & 0xffff;
      if (ahead === 0 || ahead >= 0x8000 || tick <= this.tick) fail("stale");
    }
    const inputTick = age === 255 ? this.inputTick : tick - age;
    return { flags: data[1], sequence, tick, inputTick, leadQ4: view.getInt16(9, true), targetLead: data[11] };
  }

  #counted(bytes, count) {
    return count > 0 ? bytes.take(count) : fail("an empty section");
  }

  #owner(bytes) {
    const owner = this.#counted(bytes, bytes.u8());
    return owner.length <= OWNER_MAX ? owner : fail("owner section too long");
  }

  #events(bytes, tick) {
    const events = [];
    for (let left = bytes.u8() || fail("no events"); left > 0; left--) {
      const [age, parts] = [bytes.u8(), bytes.u8()];
      const kind = Number(bytes.varint());
      const position = [0, 1, 2].map(() => bytes.folded() / EVENT_POSITION);
      const actor = parts & 1 ? bytes.entity() : 0n;
      const target = parts & 2 ? bytes.entity() : 0n;
      const vector = parts & 4 ? [0, 1, 2].map(() => bytes.folded() / EVENT_VECTOR) : [0, 0, 0];
      const value = parts & 8 ? bytes.folded() : 0;
      if (age > AGE_MAX || parts > 15 || kind > 65535) fail("no event");
      events.push({ tick: tick - age, kind, position, actor, target, vector, value });
    }
    return events;
  }

  #records(bytes, tick, left) {
    const count = bytes.u8();
    const records = [];
    if (count === 0) return bytes.at === bytes.data.length ? records : fail("bytes behind the records");
    const bitmap = bytes.take(count);
    const common = bytes.u8();
    if (count > 16 || bitmap[count - 1] === 0 || common > AGE_MAX) fail("no bitmap");
    const bits = new Bits(bytes.take(bytes.data.length - bytes.at));
    for (let slot = 0; slot < 8 * count; slot++) {
      if (((bitmap[slot >> 3] >> (slot & 7)) & 1) === 0) continue;
      const age = bits.raw(1) ? common : bits.raw(6);
      const held = this.slots[slot];
      if (age === 0) {
        records.push({ slot, ...this.#full(bits) });
      } else {
        const baseline = held && !left.has(slot) ? held.states.get(tick - age) : undefined;
        if (!baseline) fail("no baseline");
        const fields = this.#delta(bits, baseline, age, held.level);
        records.push({ slot, id: held.id, level: held.level, fields });
      }
    }
    const rest = bits.size - bits.at;
    if (rest >= 8 || bits.raw(rest) !== 0) fail("bits behind the records");
    return records;
  }

  #full(bits) {
    const id = BigInt(bits.raw(24)) | (BigInt(bits.golomb(8, 28)) << 24n) | (BigInt(bits.golomb(4, 12)) << 52n);
    const level = bits.raw(2);
    const fields = new Array(this.bits.length).fill(0);
    if (id === 0n) fail("no entity");
    if (level !== SELF) {
      for (let f = 0; f < 3; f++) fields[f] = wrapped(bits.raw(this.bits[f]), this.bits[f], true);
      const width = bits.raw(6);
      for (let f = 3; f < 6; f++) {
        if (width > this.bits[f]) fail("velocity too wide");
        fields[f] = unfold(bits.raw(width));
      }
    }
    const told = [];
    for (let f = 6; f < this.schema.count[level]; f++) if (bits.raw(1)) told.push(f);
    for (const f of told) fields[f] = wrapped(bits.raw(this.bits[f]), this.bits[f], this.signed[f]);
    return { id, level, fields };
  }

  /** A folded number of a code, for field f. */
  #number(bits, code, f) {
    let width = bits.symbol(this.tables[code]);
    if (width === ESCAPE) width += bits.raw(5);
    if (width > this.bits[f]) fail("number too wide");
    return width === 0 ? 0 : bits.raw(width - 1) + 2 ** (width - 1);
  }

  #order(baseline) {
    const { kind, reckoning } = this.schema;
    const row = reckoning[kind < 0 ? 0 : Math.min(baseline[kind], reckoning.length - 1)];
    const [order, , , , , , , field, mask, value] = row;
    return [row, order === 2 && (baseline[field] & mask) !== value ? 1 : order];
  }

  #delta(bits, baseline, age, level) {
    const fields = baseline.slice();
    let shape;
    if (level === SELF) {
      shape = bits.symbol(this.tables[SHAPE_SELF]);
    } else {
      const [row, order] = this.#order(baseline);
      const widest = widthOf(Math.max(folded(baseline[3]), folded(baseline[4]), folded(baseline[5])));
      const speed = widest === 0 ? 0 : Math.min(Math.max(widest - this.schema.speed_base, 1), 4);
      const aged = (age > 4) + (age > 8) + (age > 16);
      shape = bits.symbol(this.tables[(aged * 5 + speed) * 2 + (order === 2 ? 1 : 0)]);
      this.#motion(bits, shape, baseline, age, row, order, fields);
    }
    if (shape & 4) this.#angles(bits, fields);
    if (shape & 8) this.#changes(bits, fields, level);
    return fields;
  }

  #motion(bits, shape, baseline, age, row, order, fields) {
    const fast = order === 2 ? 1 : 0;
    const widths = [0, 0, 0];
    const read = (f, code) => {
      const value = this.#number(bits, code, f);
      return [unfold(value), Math.min(widthOf(value), ESCAPE)];
    };
    for (let axis = 0; axis < 3; axis++) {
      let change = 0;
      if (shape & 1) {
        const code = [VELOCITY_X, VELOCITY_Y + 2 * widths[0], VELOCITY_Z + 2 * Math.max(widths[0], widths[1])][axis];
        [change, widths[axis]] = read(3 + axis, code + fast);
      }
      const gained = fast ? Math.floor((row[4 + axis] * age + 32768) / 65536) : 0;
      fields[3 + axis] = wrapped(baseline[3 + axis] + gained + change, this.bits[3 + axis], true);
    }
    for (let axis = 0; axis < 3; axis++) {
      let change = 0;
      if (shape & 2) [change] = read(axis, (axis < 2 ? POSITION_XY : POSITION_Z) + widths[axis]);
      const speed = baseline[3 + axis] + fields[3 + axis];
      const way = order > 0 ? Math.floor((speed * age * this.schema.scale + 65536) / 131072) : 0;
      fields[axis] = wrapped(baseline[axis] + way + change, this.bits[axis], true);
    }
  }

  #add(bits, fields, f, code) {
    const value = this.#number(bits, code, f);
    fields[f] = wrapped(fields[f] + unfold(value), this.bits[f], this.signed[f]);
    return Math.min(widthOf(value), ESCAPE);
  }

  #angles(bits, fields) {
    const [first, second] = this.schema.angles;
    if (first === undefined) fail("no angle");
    const width = this.#add(bits, fields, first, ANGLE_A);
    if (second !== undefined) this.#add(bits, fields, second, ANGLE_B + width);
  }

  #changes(bits, fields, level) {
    const others = this.others.filter((f) => f < this.schema.count[level]);
    const which = bits.symbol(this.tables[SINGLE]);
    if (which < ESCAPE && which >= others.length) fail("no such field");
    const changed = which < ESCAPE ? [others[which]] : others.filter(() => bits.raw(1));
    for (const f of changed) {
      if (this.bits[f] <= 4) fields[f] = wrapped(bits.raw(this.bits[f]), this.bits[f], this.signed[f]);
      else this.#add(bits, fields, f, this.bits[f] <= 10 ? NARROW : WIDE);
    }
  }

  #keep(head, records) {
    const ahead = this.sequence < 0 ? 33 : (head.sequence - this.sequence) & 0xffff;
    const older = ahead < 32 ? this.ackMask * 2 ** ahead : 0;
    this.ackMask = ahead <= 32 ? (older + 2 ** (ahead - 1)) % 2 ** 32 : 0;
    [this.sequence, this.tick, this.inputTick] = [head.sequence, head.tick, head.inputTick];
    for (const { slot } of head.left) this.slots[slot] = null;
    for (const { slot, id, level, fields } of records) {
      let held = this.slots[slot];
      if (!held || held.id !== id || held.level !== level) held = { id, level, tick: 0, states: new Map() };
      held.tick = head.tick;
      held.states.set(head.tick, fields);
      for (const tick of held.states.keys()) {
        if (tick >= head.tick - AGE_MAX) break;
        held.states.delete(tick);
      }
      this.slots[slot] = held;
    }
  }
}
