// The WebSocket to a replay worker (messages in server/replay_wire.py): opens one recording, asks for frames.

import { decode } from "./feed.js";
import { readMesh } from "./mesh.js";

const CHUNK = 16;
const MESH = 17;
const SHOTS = 18;
const CHUNK_HEAD = 16;

/** Take a chunk of frames apart; null when it is not whole. */
export function decodeChunk(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < CHUNK_HEAD) return null;
  const [id, first, count] = [4, 8, 12].map((at) => view.getUint32(at, true));
  const frames = [];
  let at = CHUNK_HEAD;
  for (let number = 0; number < count; number += 1) {
    if (at + 4 > buffer.byteLength) return null;
    const length = view.getUint32(at, true);
    const frame = at + 4 + length <= buffer.byteLength ? decode(buffer.slice(at + 4, at + 4 + length)) : null;
    if (!frame) return null;
    frames.push(frame);
    at += 4 + length;
  }
  return { id, first, stride: view.getUint16(2, true), frames };
}

/** Take the list of all shots apart: ticks, and rows of the index's players. */
export function decodeShots(buffer) {
  const count = new DataView(buffer).getUint32(4, true);
  if (buffer.byteLength !== 8 + count * 6) return null;
  return { ticks: new Uint32Array(buffer, 8, count), players: new Uint16Array(buffer, 8 + count * 4, count) };
}

export class ReplayLink {
  /** `on` hears each text message by its type, and `chunk`, `mesh`, `shotList`, `closed`. */
  constructor(file, tick, on) {
    const query = new URLSearchParams({ file });
    if (tick !== null) query.set("tick", String(tick));
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/replay?${query}`);
    this.socket.binaryType = "arraybuffer";
    this.on = on;
    this.turn = 1;
    this.number = 0;
    this.waiting = new Map(); // what was asked for, by number
    this.socket.onmessage = ({ data }) => this.take(data);
    this.socket.onclose = () => on.closed();
  }

  close() {
    this.socket.onclose = null;
    this.socket.onmessage = null;
    this.socket.close();
  }

  get open() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  take(data) {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (message.type === "dropped" || message.type === "refused") this.waiting.delete(message.id);
      if (this.on[message.type]) this.on[message.type](message);
      return;
    }
    const kind = data.byteLength >= 4 ? new DataView(data).getUint16(0, true) : 0;
    if (kind === CHUNK) this.takeChunk(decodeChunk(data));
    else if (kind === MESH) this.on.mesh(readMesh(data.slice(4)));
    else if (kind === SHOTS) this.on.shotList(decodeShots(data));
  }

  takeChunk(chunk) {
    if (!chunk) return;
    this.waiting.delete(chunk.id);
    this.on.chunk(chunk.frames, chunk.stride);
  }

  ask(request) {
    if (this.open) this.socket.send(JSON.stringify(request));
  }

  /** Ask for frames of `first`, `first + stride` … `last`. */
  frames(first, last, stride) {
    this.number += 1;
    this.waiting.set(this.number, { first, last, stride });
    this.ask({ op: "frames", id: this.number, turn: this.turn, first, last, stride });
  }

  /** The user has gone elsewhere: what was asked for and has not come is not wanted any more. */
  elsewhere() {
    this.turn += 1;
    this.waiting.clear();
  }
}
