// What is known of the match, and what it looks like at a moment: frames are shown DELAY_MS late so that there is
// nearly always one on either side to interpolate between (Valve, "Source Multiplayer Networking").

import { EVENT, FLAG } from "./feed.js";

const DELAY_MS = 100;
const FRAMES_MAX = 40;
const HISTORY_MAX = 240;
const EFFECTS_MAX = 600;
const EXTRAPOLATE_MS = 120;
const KILLS_MAX = 6;
const SOLO_COLOURS = ["#7cc4ff", "#ff8f6b", "#6ee7c8", "#f6d365", "#c79bff", "#ff7aa8", "#8fe36b", "#5ad1f0", "#ffb35c",
  "#a3b8ff", "#e5e58a", "#f29be0"];
const EFFECTS = { [EVENT.shot]: "tracer", [EVENT.hit]: "spark", [EVENT.explosion]: "blast", [EVENT.spawn]: "spawn",
  [EVENT.pickup]: "taken", [EVENT.kill]: "death" };
const LIFE_MS = { tracer: 260, spark: 380, blast: 620, death: 2600, spawn: 700, taken: 500 };

function turn(from, to, part) {
  let delta = (to - from) % (2 * Math.PI);
  if (delta > Math.PI) delta -= 2 * Math.PI;
  if (delta < -Math.PI) delta += 2 * Math.PI;
  return from + delta * part;
}

function between(a, b, part) {
  return [a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part, a[2] + (b[2] - a[2]) * part];
}

function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

export class Match {
  constructor() {
    this.info = null;
    this.names = [];
    this.state = "waiting";
    this.frameCount = 0;
    this.onKill = () => {};
    this.reset();
  }

  /** Forget the frames of a former run. */
  reset() {
    this.frames = [];
    this.history = [];
    this.effects = [];
    this.kills = [];
    this.offset = null;
    this.shown = -Infinity;
    this.latest = null;
  }

  setInfo(info) {
    this.info = info;
    this.reset();
  }

  nameOf(player) {
    return (player && this.names[player.name]) || "?";
  }

  /** A team's colour; where all are one team, a player's own, so that people can be told apart. */
  colourOf(team, player) {
    const teams = this.info ? this.info.teams : [];
    if (player && teams.length < 2) return SOLO_COLOURS[player.name % SOLO_COLOURS.length];
    const colour = teams.length ? teams[team % teams.length].colour : "#7cc4ff";
    return /^#[0-9a-f]{6}$/i.test(colour) ? colour : "#7cc4ff";
  }

  add(frame, now) {
    this.frameCount += 1;
    if (this.latest && frame.sequence <= this.latest.sequence) return;
    // The smallest delay seen tells the clocks apart; it creeps up so that a drifting clock is followed.
    const offset = now - frame.wall;
    if (this.offset === null || Math.abs(offset - this.offset) > 3000) this.offset = offset;
    else this.offset = Math.min(offset, this.offset + 0.2);
    this.latest = frame;
    this.frames.push(frame);
    if (this.frames.length > FRAMES_MAX) this.frames.shift();
    this.history.push({ wall: frame.wall, metrics: frame.metrics, stages: frame.stages.map((stage) => stage.last) });
    if (this.history.length > HISTORY_MAX) this.history.shift();
  }

  /** Time between frames [ms], from the newest few. */
  interval() {
    const { frames } = this;
    const count = Math.min(frames.length, 11);
    return count < 2 ? 50 : (frames[frames.length - 1].wall - frames[frames.length - count].wall) / (count - 1);
  }

  /** Everything to draw at browser time `now`. */
  scene(now) {
    const { frames } = this;
    if (!frames.length) return { players: [], projectiles: [], pickups: [], effects: [], time: now, tick: 0, byId: new Map() };
    const time = now - this.offset - Math.max(DELAY_MS, Math.min(400, this.interval() * 2));
    let after = frames.findIndex((frame) => frame.wall > time);
    if (after < 0) after = frames.length;
    const a = frames[Math.max(0, after - 1)];
    const b = frames[Math.min(frames.length - 1, after)];
    this.release(time);
    const part = b.wall > a.wall ? Math.min(1, Math.max(0, (time - a.wall) / (b.wall - a.wall))) : 0;
    const ahead = a === b ? Math.min(EXTRAPOLATE_MS, Math.max(0, time - a.wall)) / 1000 : 0;
    const players = a.players.map((from) => this.blend(from, b.byId.get(from.id) || from, part, ahead));
    const moved = new Map(b.projectiles.map((entry) => [entry.id, entry]));
    const projectiles = a.projectiles.map((from) => {
      const to = moved.get(from.id) || from;
      return { ...from, p: distance(from.p, to.p) < 30 ? between(from.p, to.p, part) : from.p };
    });
    this.effects = this.effects.filter((effect) => time - effect.start < effect.life);
    return { players, projectiles, pickups: b.pickups, movers: this.shifts(a, b, part), effects: this.effects, time,
      tick: a.tick + (b.tick - a.tick) * part + ahead * this.info.tick_rate,
      byId: new Map(players.map((entry) => [entry.id, entry])) };
  }

  /** Where doors and lifts are between two frames: their ways from rest. */
  shifts(a, b, part) {
    return a.movers.map((from, number) => between(from, b.movers[number] || from, part));
  }

  blend(from, to, part, ahead) {
    const teleported = distance(from.p, to.p) > 6 + Math.hypot(...from.v) * 0.2;
    const revived = (from.flags ^ to.flags) & FLAG.alive;
    const p = teleported || revived ? from.p.slice() : between(from.p, to.p, part);
    if (ahead && from.flags & FLAG.alive) for (let axis = 0; axis < 3; axis += 1) p[axis] += from.v[axis] * ahead;
    return { ...to, p, flags: from.flags, yaw: turn(from.yaw, to.yaw, part),
      pitch: from.pitch + (to.pitch - from.pitch) * part };
  }

  /** Let the events of frames up to `time` happen. */
  release(time) {
    for (const frame of this.frames) {
      if (frame.wall > time || frame.sequence <= this.shown) continue;
      this.shown = frame.sequence;
      if (time - frame.wall < 1000) for (const event of frame.events) this.happen(event, frame);
    }
  }

  happen(event, frame) {
    const effect = this.effectOf(event, frame);
    if (effect) {
      this.effects.push(effect);
      if (this.effects.length > EFFECTS_MAX) this.effects.shift();
    }
    if (event.kind !== EVENT.kill) return;
    this.kills.unshift(this.killOf(event, frame));
    this.kills.length = Math.min(this.kills.length, KILLS_MAX);
    this.onKill(this.kills[0]);
  }

  /** What is to be seen of an event, from `start` on for `life` ms; null where nothing is. */
  effectOf(event, frame) {
    const actor = frame.byId.get(event.actor);
    const target = frame.byId.get(event.target);
    const kind = EFFECTS[event.kind];
    if (!kind) return null;
    const whose = kind === "death" ? target : actor;
    const effect = { kind, p: event.p, end: event.end, start: frame.wall, life: LIFE_MS[kind],
      colour: whose ? this.colourOf(whose.team, whose) : "#ffd479" };
    if (kind === "spark") effect.size = event.value;
    if (kind === "blast") effect.radius = Math.max(0.5, event.value / 1000);
    return effect;
  }

  killOf(event, frame) {
    const weapon = this.info && this.info.weapons[event.value & 255];
    return { actor: frame.byId.get(event.actor), target: frame.byId.get(event.target), weapon: weapon || "",
      head: (event.value & 256) !== 0 };
  }
}
