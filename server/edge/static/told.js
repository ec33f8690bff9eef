// What one chosen client is told (layout in server/livetold.py): figures, slots, and its snapshots, decoded as it decodes
// them. Snapshots are taken when the picture comes to their tick, so that what is drawn as told and what is drawn as true
// are of the same moment. The way to the client is not in it: this is what it was sent, when it was sent.

import { SnapshotDecoder } from "./snapshot.js";

const HEAD_BYTES = 160;
const [REFUSED_AT, REASONS] = [128, 16];
const SLOT_BYTES = 16;
const KEY_BYTES = 16;
const QUEUE_MAX = 400;
const FRAMES_MAX = 60;
const MEASURES_MAX = 40;
const SPARK_MS = 500;
const SPARK_MAX = 120;
const NEVER = 65535;
const JUMP_M = 2;
const [PUBLIC, SELF] = [0, 3];

export const SLOT = { told: 1, hidden: 2 };
export const MODE = { own: 0, killcam: 1, dead: 2, follow: 3, camera: 4 };

function big(view, at) {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 4294967296;
}

function readSlots(view, count) {
  const slots = new Map();
  for (let at = HEAD_BYTES, end = at + count * SLOT_BYTES; at < end; at += SLOT_BYTES) {
    const age = view.getUint16(at + 12, true);
    slots.set(view.getBigUint64(at, true), { state: view.getUint8(at + 8), found: view.getUint8(at + 9),
      level: view.getUint8(at + 10), factor: view.getUint8(at + 11), age: age === NEVER ? null : age });
  }
  return slots;
}

function readKey(view, at, count, fields) {
  const states = at + count * KEY_BYTES;
  return Array.from({ length: count }, (_, row) => {
    const from = at + row * KEY_BYTES;
    const first = states + row * fields * 4;
    return { slot: view.getUint8(from), level: view.getUint8(from + 1), newest: view.getUint16(from + 2, true) !== 0,
      tick: view.getUint32(from + 4, true), id: view.getBigUint64(from + 8, true),
      fields: Array.from({ length: fields }, (_unused, f) => view.getInt32(first + f * 4, true)) };
  });
}

/** Take one message apart; null when it is not one. */
export function decodeTold(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < HEAD_BYTES || view.getUint16(0, true) !== 2 || view.getUint16(2, true) !== 2) return null;
  const [slotCount, keyCount, fields] = [4, 6, 106].map((at) => view.getUint16(at, true));
  const keyAt = HEAD_BYTES + slotCount * SLOT_BYTES;
  let at = keyAt + keyCount * (KEY_BYTES + 4 * fields);
  if (view.byteLength !== at + view.getUint32(12, true)) return null;
  const snapshots = [];
  while (at + 2 <= view.byteLength) {
    const length = view.getUint16(at, true);
    snapshots.push(new Uint8Array(buffer, at + 2, Math.min(length, view.byteLength - at - 2)));
    at += 2 + length;
  }
  const float = (place) => view.getFloat32(place, true);
  return {
    number: view.getUint32(8, true), entity: view.getBigUint64(16, true), tick: big(view, 24), wall: big(view, 32) / 1e6,
    watched: view.getBigUint64(40, true), rtt: float(48), loss: float(52), rate: float(56), allowed: float(60),
    bytes: float(64), budget: view.getUint32(68, true), eye: [72, 76, 80].map(float),
    yaw: (view.getUint16(84, true) / 65536) * 2 * Math.PI, mode: view.getUint8(86), halfCone: float(88),
    horizon: float(92), rays: view.getUint32(96, true), told: view.getUint16(100, true), hidden: view.getUint16(102, true),
    refused: Array.from({ length: REASONS }, (_, reason) => view.getUint16(REFUSED_AT + reason * 2, true)),
    waiting: view.getUint16(104, true), sequence: view.getUint32(108, true), snapshotTick: view.getUint32(112, true),
    slots: readSlots(view, slotCount), key: keyCount ? readKey(view, keyAt, keyCount, fields) : null, snapshots,
  };
}

/** Bytes of a snapshot by part, from its lengths alone. */
export function partsOf(data) {
  const parts = { header: 12, own: 0, zone: 0, rest: 0 };
  let at = 12;
  if (data[1] & 1) at += parts.own = 1 + data[at];
  if (data[1] & 2) at += 1 + data[at];
  if (data[1] & 4) at += parts.zone = 2 + data[at] + 256 * data[at + 1];
  parts.rest = Math.max(0, data.length - parts.header - parts.own - parts.zone);
  return parts;
}

function jumped(from, to, milliseconds) {
  const reach = JUMP_M + (Math.hypot(...from.v) + Math.hypot(...to.v)) * (milliseconds / 1000);
  return Math.hypot(...from.p.map((value, axis) => value - to.p[axis])) > reach;
}

export class Told {
  constructor() {
    this.schema = null;
    this.tickRate = 60;
    this.choose(null);
  }

  /** A run of the server begins. */
  begin(info) {
    this.schema = info.records && info.records.fields ? info.records : null;
    this.tickRate = info.tick_rate;
    this.at = this.schema ? Object.fromEntries(this.schema.fields.map((field, f) => [field.name, f])) : {};
    this.choose(this.entity);
  }

  /** Look at another client, or at none. */
  choose(entity) {
    this.entity = entity;
    this.latest = null;
    this.granted = null;
    this.spark = [];
    this.parts = null;
    this.messages = 0;
    this.decoded = 0;
    this.losses = { missed: 0, undecodable: 0, late: 0 };
    this.since = performance.now();
    this.decoder = this.schema ? new SnapshotDecoder(this.schema) : null;
    this.loseStep();
  }

  loseStep() {
    this.inStep = false; // until the next key
    this.queue = [];
    this.frames = [];
    this.measures = [];
    this.upTo = 0;
    this.before = null; // the frame measured last
    if (this.decoder) this.decoder.reset();
  }

  add(message) {
    if (message.entity !== this.entity) return;
    if (this.latest && message.number !== this.latest.number + 1) this.fail("missed");
    this.latest = message;
    this.messages += 1;
    if (message.snapshots.length) this.parts = partsOf(message.snapshots[message.snapshots.length - 1]);
    if (!this.spark.length || message.wall - this.spark[this.spark.length - 1].wall >= SPARK_MS) {
      this.spark.push({ wall: message.wall, bytes: message.bytes });
      if (this.spark.length > SPARK_MAX) this.spark.shift();
    }
    if (!this.decoder) return;
    if (this.inStep) {
      for (const data of message.snapshots) {
        this.queue.push({ tick: new DataView(data.buffer, data.byteOffset).getUint32(4, true), data });
      }
    } else if (message.key) {
      this.inStep = true;
      this.queue.push({ tick: message.snapshotTick, key: message });
    }
    if (this.inStep) this.upTo = message.tick;
    if (this.queue.length > QUEUE_MAX) this.fail("late"); // a page that is not drawn, as in the background
  }

  /** Out of step until the next key: a message is missing, as on a busy machine, or what came could not be decoded. */
  fail(why) {
    this.losses[why] += 1;
    this.loseStep();
  }

  /** A frame of the truth, to be compared with what is known at its tick. */
  compare(frame) {
    if (!this.inStep) return;
    this.frames.push(frame);
    if (this.frames.length > FRAMES_MAX) this.frames.shift();
  }

  /** Take what was sent up to a tick. */
  advance(tick) {
    while (this.queue.length && this.queue[0].tick <= tick) {
      const next = this.queue.shift();
      this.measureUntil(next.tick - 1);
      if (next.key) this.seed(next.key);
      else if (this.decoder.decode(next.data) !== null) this.decoded += 1;
      else return this.fail("undecodable");
    }
    return this.measureUntil(Math.min(tick, this.upTo));
  }

  seed(message) {
    const { decoder } = this;
    decoder.reset();
    [decoder.sequence, decoder.tick, decoder.inputTick] = [message.sequence, message.snapshotTick, message.snapshotTick];
    for (const { slot, level, newest, tick, id, fields } of message.key) {
      const held = decoder.slots[slot] || { id, level, tick, states: new Map() };
      held.states.set(tick, fields);
      if (newest) held.tick = tick;
      decoder.slots[slot] = held;
    }
  }

  measureUntil(tick) {
    while (this.frames.length && this.frames[0].tick <= tick) {
      const frame = this.frames.shift();
      if (frame.tick >= this.decoder.tick && this.decoder.tick > 0) this.measure(frame);
    }
  }

  /** Who appears somewhere else at once, as at a new life, is not measured until the next snapshot could say so. */
  measure(frame) {
    let [count, sum, max] = [0, 0, 0];
    const before = this.before;
    this.before = frame;
    for (const known of this.known(frame.tick)) {
      const truth = frame.byId.get(known.id);
      const then = before && before.byId.get(known.id);
      if (!truth || !then || known.level === SELF || jumped(then, truth, frame.wall - before.wall)) continue;
      const away = Math.hypot(...known.p.map((value, axis) => value - truth.p[axis]));
      [count, sum, max] = [count + 1, sum + away, Math.max(max, away)];
    }
    this.measures.push({ count, sum, max });
    if (this.measures.length > MEASURES_MAX) this.measures.shift();
  }

  /** Distance between what is known and the truth over the last two seconds [m]; null before there is any. */
  error() {
    const count = this.measures.reduce((total, entry) => total + entry.count, 0);
    if (!count) return null;
    return { mean: this.measures.reduce((total, entry) => total + entry.sum, 0) / count,
      max: Math.max(...this.measures.map((entry) => entry.max)), count };
  }

  /** What the client knows, gone on to a tick: id, level, position [m], velocity [m/s], angles [rad], fields. */
  known(tick) {
    if (!this.inStep || !this.decoder || this.decoder.tick === 0) return [];
    return this.decoder.entities().filter((entry) => entry.fields).map((entry) => this.reckon(entry, tick));
  }

  reckon({ id, level, tick: from, fields }, tick) {
    const { schema, at } = this;
    const row = schema.reckoning[schema.kind < 0 ? 0 : Math.min(fields[schema.kind], schema.reckoning.length - 1)];
    const falls = row[0] === 2 && (fields[row[7]] & row[8]) === row[9];
    const age = Math.max(0, tick - from);
    const p = [], v = [];
    for (let axis = 0; axis < 3; axis += 1) {
      const speed = fields[3 + axis];
      const then = speed + (falls ? (row[4 + axis] * age) / 65536 : 0);
      const way = row[0] > 0 ? ((speed + then) * age * schema.scale) / 131072 : 0;
      p.push((fields[axis] + way) * schema.fields[axis].step);
      v.push(then * schema.fields[3 + axis].step);
    }
    const angle = (name) => (at[name] === undefined ? 0
      : ((fields[at[name]] * schema.fields[at[name]].step) / 65536) * 2 * Math.PI);
    return { id, level, p, v, yaw: angle("look.yaw"), pitch: angle("look.pitch"), age, fields };
  }

  field(known, name) {
    return this.at[name] === undefined ? undefined : known.fields[this.at[name]];
  }

  /** The scene as the client knows it; what it does not know of, or where it errs, is in `truth`. */
  scene(scene) {
    const players = [], projectiles = [];
    const flying = new Map(scene.projectiles.map((entry) => [entry.id, entry]));
    for (const known of this.known(scene.tick)) {
      const player = scene.byId.get(known.id);
      const shot = flying.get(known.id);
      if (player && known.level !== SELF) {
        const health = known.level === PUBLIC ? null : this.field(known, "vitals.health") ?? player.health;
        players.push({ ...player, p: known.p, v: known.v, yaw: known.yaw, pitch: known.pitch, health,
          armour: known.level === PUBLIC ? 0 : player.armour });
      } else if (shot) projectiles.push({ ...shot, p: known.p });
    }
    const own = scene.byId.get(this.entity);
    if (own) players.push(own); // it predicts itself
    return { ...scene, players, projectiles, truth: scene.players,
      byId: new Map(players.map((entry) => [entry.id, entry])) };
  }

  /** "told", "hidden" or "far": how a player stands to the client looked at; "" where nobody is looked at. */
  relation(id) {
    if (!this.latest || id === this.entity) return "";
    const slot = this.latest.slots.get(id);
    if (!slot) return "far";
    return slot.state === SLOT.told ? "told" : "hidden";
  }
}
