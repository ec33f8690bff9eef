// The live WebSocket: connects, connects again, and takes binary frames apart (layout in server/livefeed.py).

const PLAYER_BYTES = 64;
const PROJECTILE_BYTES = 24;
const PICKUP_BYTES = 16;
const EVENT_BYTES = 48;
const STAGE_BYTES = 12;
const MOVER_BYTES = 12;
const HEAD_BYTES = 288;
const METRICS_AT = 48;
const TELLING_AT = 128;
const [REFUSED_AT, REASONS, FLAGGED_AT, MEASURES] = [192, 16, 256, 8];
const VERSION = 3;
const TELLING = ["p50", "p95", "max", "hz", "records", "events", "sent", "atRest", "steady", "inFlight", "deferred",
  "toldPairs", "hiddenPairs", "rays", "watched"];
const RETRY_MS = [250, 500, 1000, 2000];
const SILENT_MS = 30000; // an edge that sends nothing for so long, not even a state, is taken for dead

export const FLAG = { alive: 1, crouched: 2, onGround: 4, bot: 8 };
export const EVENT = { shot: 1, hit: 2, kill: 3, explosion: 4, pickup: 5, spawn: 6, join: 7, leave: 8 };

/** A number from a 64-bit counter; exact below 2^53, which no counter of a match reaches. */
function big(view, at) {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 4294967296;
}

function point(view, at) {
  return [view.getFloat32(at, true), view.getFloat32(at + 4, true), view.getFloat32(at + 8, true)];
}

function player(view, at) {
  return {
    id: view.getBigUint64(at, true),
    p: point(view, at + 8),
    v: point(view, at + 20),
    yaw: (view.getUint16(at + 32, true) / 65536) * 2 * Math.PI,
    pitch: (view.getInt16(at + 34, true) / 65536) * 2 * Math.PI,
    health: view.getInt16(at + 36, true),
    armour: view.getInt16(at + 38, true),
    team: view.getUint8(at + 40),
    weapon: view.getUint8(at + 41),
    flags: view.getUint8(at + 42),
    kills: view.getInt32(at + 44, true),
    deaths: view.getInt32(at + 48, true),
    score: view.getInt32(at + 52, true),
    ping: view.getUint16(at + 56, true),
    name: view.getUint16(at + 58, true),
    bytesOut: view.getUint32(at + 60, true),
  };
}

function projectile(view, at) {
  return { id: view.getBigUint64(at, true), p: point(view, at + 8), kind: view.getUint8(at + 20) };
}

function pickup(view, at) {
  return { p: point(view, at), kind: view.getUint8(at + 12), available: view.getUint8(at + 13) !== 0 };
}

function event(view, at) {
  return {
    kind: view.getUint16(at, true),
    tick: view.getUint16(at + 2, true), // its low 16 bits
    value: view.getInt32(at + 4, true),
    actor: view.getBigUint64(at + 8, true),
    target: view.getBigUint64(at + 16, true),
    p: point(view, at + 24),
    end: point(view, at + 36),
  };
}

function stage(view, at) {
  return { last: view.getUint32(at, true), p50: view.getUint32(at + 4, true), p99: view.getUint32(at + 8, true) };
}

function metrics(view, at) {
  const short = ["tick", "p50", "p95", "p99", "budget", "connected"];
  const long = ["overruns", "bytesIn", "bytesOut", "packetsIn", "packetsOut", "drops", "truncated"];
  const result = {};
  short.forEach((name, number) => { result[name] = view.getUint32(at + number * 4, true); });
  long.forEach((name, number) => { result[name] = big(view, at + 24 + number * 8); });
  return result;
}

function telling(view, at) {
  return Object.fromEntries(TELLING.map((name, number) => [name, view.getFloat32(at + number * 4, true)]));
}

/** Take one binary frame apart; null when it is not one. */
export function decode(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < HEAD_BYTES || view.getUint16(0, true) !== 1 || view.getUint16(2, true) !== VERSION) return null;
  const counts = [40, 32, 34, 36, 38, 42].map((at) => view.getUint16(at, true));
  const kinds = [[stage, STAGE_BYTES], [player, PLAYER_BYTES], [projectile, PROJECTILE_BYTES],
    [pickup, PICKUP_BYTES], [event, EVENT_BYTES], [point, MOVER_BYTES]];
  const total = kinds.reduce((sum, [, bytes], number) => sum + bytes * counts[number], HEAD_BYTES);
  if (view.byteLength !== total) return null;
  let at = HEAD_BYTES;
  const lists = kinds.map(([read, bytes], number) => {
    const list = new Array(counts[number]);
    for (let entry = 0; entry < list.length; entry += 1, at += bytes) list[entry] = read(view, at);
    return list;
  });
  const [stages, players, projectiles, pickups, events, movers] = lists;
  return {
    sequence: big(view, 8), tick: big(view, 16), wall: big(view, 24) / 1e6, metrics: metrics(view, METRICS_AT),
    telling: telling(view, TELLING_AT),
    refused: Array.from({ length: REASONS }, (_, reason) => view.getUint32(REFUSED_AT + reason * 4, true)),
    flagged: Array.from({ length: MEASURES }, (_, measure) => view.getUint32(FLAGGED_AT + measure * 4, true)),
    stages, players, projectiles, pickups, events, movers, byId: new Map(players.map((entry) => [entry.id, entry])),
  };
}

/** Connects for ever; calls `on.info`, `on.names`, `on.state`, `on.frame`, `on.told`, `on.watching`. */
export class Feed {
  constructor(on) {
    this.on = on;
    this.failures = 0;
    this.connections = 0;
    this.asked = "0";
    this.connect();
  }

  /** Ask what a player is told; "0": nobody. Asked again on every connection. */
  watch(id) {
    this.asked = id;
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ watch: id }));
  }

  connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    let watchdog = 0;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => { if (this.live) socket.close(); }, SILENT_MS);
    };
    socket.onopen = () => {
      this.failures = 0;
      this.connections += 1;
      alive();
      if (this.asked !== "0") this.watch(this.asked);
    };
    socket.onmessage = ({ data }) => { alive(); this.take(data); };
    socket.onclose = () => {
      clearTimeout(watchdog);
      this.live = false;
      this.on.state("offline");
      setTimeout(() => this.connect(), RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)]);
      this.failures += 1;
    };
  }

  take(data) {
    if (typeof data !== "string") {
      const frame = decode(data);
      if (frame) this.on.frame(frame);
      else this.on.told(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "state") this.live = message.state === "live";
    if (message.type === "state") this.on.state(message.state);
    else if (message.type === "info") this.on.info(message);
    else if (message.type === "watching") this.on.watching(message);
    else if (message.type === "names") this.on.names(message.names);
  }
}
