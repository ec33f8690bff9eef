// A recorded match on the page: frames by tick, as many as fit, and what they look like at a moment between two.

import { EVENT } from "./feed.js";
import { Match } from "./match.js";

const FRAMES_MAX = 3000; // beyond it those farthest from the present are forgotten
const EFFECT_TICKS_S = 2.7; // no effect lasts longer
const GAP_TICKS = 64; // the farthest apart that two frames may be to move between them

/** Where `tick` stands, or would stand, in an ascending list. */
function place(list, tick) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < tick) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class ReplayMatch extends Match {
  reset() {
    super.reset();
    this.byTick = new Map();
    this.ticks = [];
    this.nameById = new Map();
  }

  nameOf(player) {
    return (player && this.nameById.get(player.id)) || "?";
  }

  get rate() {
    return this.info ? this.info.tick_rate : 60;
  }

  /** Keep a frame; `stride` ticks of events are in it. */
  keep(frame, stride, position) {
    const known = this.byTick.get(frame.tick);
    if (known && known.stride <= stride) return;
    frame.stride = stride;
    frame.wall = (frame.tick / this.rate) * 1000;
    for (const event of frame.events) event.at = frame.tick - ((frame.tick - event.tick) & 0xffff);
    frame.effects = frame.events.map((event) => this.effectAt(event, frame)).filter(Boolean);
    if (!known) this.ticks.splice(place(this.ticks, frame.tick), 0, frame.tick);
    this.byTick.set(frame.tick, frame);
    this.frameCount += 1;
    while (this.ticks.length > FRAMES_MAX) {
      const first = position - this.ticks[0] > this.ticks[this.ticks.length - 1] - position;
      this.byTick.delete(first ? this.ticks.shift() : this.ticks.pop());
    }
  }

  effectAt(event, frame) {
    const effect = this.effectOf(event, frame);
    if (effect) effect.start = (event.at / this.rate) * 1000;
    return effect;
  }

  /** The frames on both sides of a moment, in ticks; null where they are not here yet. */
  around(position) {
    const { ticks } = this;
    const at = place(ticks, position + 1e-6) - 1;
    if (at < 0 || position - ticks[at] >= GAP_TICKS) return null;
    const a = this.byTick.get(ticks[at]);
    if (position === a.tick) return [a, a];
    if (at + 1 >= ticks.length || ticks[at + 1] - ticks[at] > GAP_TICKS) return null;
    return [a, this.byTick.get(ticks[at + 1])];
  }

  /** How far, from a moment on, frames lie closely enough to play over them; the last such tick. */
  heldUntil(position, stride) {
    const { ticks } = this;
    let at = place(ticks, position + 1e-6) - 1;
    if (at < 0 || position - ticks[at] >= stride) return position - 1;
    while (at + 1 < ticks.length && ticks[at + 1] - ticks[at] <= stride) at += 1;
    return ticks[at];
  }

  /** Everything to draw at a moment in ticks; null where its frames are not here. */
  sceneAt(position) {
    const pair = this.around(position);
    if (!pair) return null;
    const [a, b] = pair;
    const part = b.tick > a.tick ? (position - a.tick) / (b.tick - a.tick) : 0;
    this.latest = a;
    const players = a.players.map((from) => this.blend(from, b.byId.get(from.id) || from, part, 0));
    const moved = new Map(b.projectiles.map((entry) => [entry.id, entry]));
    const projectiles = a.projectiles.map((from) => this.flown(from, moved.get(from.id) || from, part));
    const time = (position / this.rate) * 1000;
    return { players, projectiles, pickups: a.pickups, movers: this.shifts(a, b, part), effects: this.effectsAt(position, time), time, tick: position,
      byId: new Map(players.map((entry) => [entry.id, entry])) };
  }

  flown(from, to, part) {
    const p = from.p.map((value, axis) => value + (to.p[axis] - value) * part);
    return Math.hypot(...p.map((value, axis) => value - from.p[axis])) < 30 ? { ...from, p } : from;
  }

  effectsAt(position, time) {
    const found = [];
    const { ticks } = this;
    let at = place(ticks, position - EFFECT_TICKS_S * this.rate);
    // Events may lie before the frame that holds them, so the frame after the moment is looked at too.
    for (; at < ticks.length && ticks[at] < position + GAP_TICKS; at += 1) {
      for (const effect of this.byTick.get(ticks[at]).effects) {
        if (effect.start <= time + 1e-6 && time - effect.start < effect.life) found.push(effect);
      }
    }
    return found;
  }

  /** Shots of one player, or of all for null, in the frames held, from tick to tick. */
  shots(id, first, last) {
    const found = [];
    for (let at = place(this.ticks, first); at < this.ticks.length && this.ticks[at] <= last + GAP_TICKS; at += 1) {
      for (const event of this.byTick.get(this.ticks[at]).events) {
        if (event.kind === EVENT.shot && event.at >= first && event.at <= last && (id === null || event.actor === id)) found.push(event);
      }
    }
    return found;
  }

  scene() {
    return { players: [], projectiles: [], pickups: [], effects: [], time: 0, tick: 0, byId: new Map() };
  }
}
