// The time line of a recorded match: what happened when, as marks or, where they are many, as their density; below it,
// on the same axis, the server's tick and the connection of the player followed. Everything but the playhead is drawn
// to a canvas of its own, anew only when something has changed.

import { sharpen } from "./board.js";
import { STAGE_COLOURS } from "./panels.js";

const GUTTER = 64;
const MARK_NEAR_PX = 6;
const SPAN_TICKS_MIN = 30;
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const LANES = [["", 16], ["kills", 19], ["shots", 21], ["refused", 15], ["people", 15], ["tick", 40], ["network", 44]];
const COLOURS = { kill: "#8fa3b8", mine: "#7ee787", death: "#ff6b6b", refusal: "#ff8f6b", flag: "#f2cc60",
  join: "#6ee7c8", leave: "#8b98a9", start: "#e6edf5", shots: "#4d6a85", own: "#6ee7c8" };
export const NETWORK_LINES = [["rtt", "round trip", "#7cc4ff", "ms"], ["delay", "shown late by", "#b794f6", "ms"],
  ["kbps", "to client", "#6ee7c8", "kbit/s"], ["loss", "lost", "#ff6b6b", "%"]];

/** 1:02:03.456, or as much of it as the step between labels needs. */
export function clock(seconds, step = 0) {
  const sign = seconds < 0 ? "−" : "";
  const whole = Math.abs(seconds);
  const digits = step >= 1 ? 0 : step >= 0.1 ? 1 : 3;
  const scale = 10 ** digits;
  const rounded = Math.round(whole * scale) / scale;
  const minutes = Math.floor(rounded / 60);
  const rest = (rounded - minutes * 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  if (minutes < 60) return `${sign}${minutes}:${rest}`;
  return `${sign}${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** How many of an ascending list are below a value. */
export function countBelow(list, value) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class Timeline {
  /** `on.scrub(tick)` while dragging, `on.seek(tick)` at its end, `on.describe(mark)` for what the pointer is over. */
  constructor(canvas, tip, on) {
    Object.assign(this, { canvas, tip, on, first: 0, last: 1, rate: 60, low: 0, high: 1, spans: [], dirty: true, dragging: false });
    this.layer = document.createElement("canvas");
    this.clear();
    this.listen();
  }

  clear() {
    Object.assign(this, { marks: {}, players: [], shots: null, stages: null, network: null, followed: null, own: null });
    this.dirty = true;
  }

  begin({ first, last, spans, rate }) {
    Object.assign(this, { first, last: Math.max(last, first + 1), spans, rate });
    this.whole();
  }

  whole() {
    this.show(this.first, this.last);
  }

  /** Show the ticks from low to high. */
  show(low, high) {
    const span = Math.max(SPAN_TICKS_MIN, Math.min(this.last - this.first, high - low));
    this.low = Math.max(this.first, Math.min(this.last - span, low));
    this.high = Math.min(this.last, this.low + span);
    this.dirty = true;
  }

  zoom(factor, tick) {
    const part = (tick - this.low) / (this.high - this.low);
    const span = (this.high - this.low) * factor;
    this.show(tick - part * span, tick + (1 - part) * span);
  }

  setIndex({ marks, players }) {
    Object.assign(this, { marks, players: players.map(([id, name]) => ({ id: BigInt(id), name })) });
    this.follow(this.followed);
  }

  setShots(shots) {
    this.shots = shots;
    this.follow(this.followed);
  }

  /** Show a player's own shots and deaths apart from those of others. */
  follow(id) {
    this.followed = id;
    this.row = this.players.findIndex((player) => player.id === id);
    this.own = null;
    if (this.shots && this.row >= 0) {
      const { ticks, players } = this.shots;
      this.own = ticks.filter((_, number) => players[number] === this.row);
    }
    this.network = null;
    this.dirty = true;
  }

  x(tick) {
    return GUTTER + ((tick - this.low) / (this.high - this.low)) * (this.width - GUTTER);
  }

  tickAt(x) {
    return this.low + ((x - GUTTER) / Math.max(1, this.width - GUTTER)) * (this.high - this.low);
  }

  // Drawing

  draw(position, held) {
    const [context, width, height] = sharpen(this.canvas);
    if (width < 2) return;
    if (this.width !== width || this.height !== height) Object.assign(this, { width, height, dirty: true });
    if (this.dirty) this.drawLayer();
    context.clearRect(0, 0, width, height);
    context.drawImage(this.layer, 0, 0, width, height);
    if (held > position) {
      context.fillStyle = "rgba(110,231,200,0.5)";
      context.fillRect(this.x(position), 14, Math.max(0, Math.min(width, this.x(held)) - this.x(position)), 2);
    }
    const x = this.x(position);
    if (x < GUTTER - 1 || x > width + 1) return;
    context.fillStyle = "#ffffff";
    context.fillRect(Math.round(x) - 0.5, 0, 1.5, height);
    context.beginPath();
    context.moveTo(x - 5, 0);
    context.lineTo(x + 5, 0);
    context.lineTo(x, 7);
    context.fill();
  }

  drawLayer() {
    this.dirty = false;
    const ratio = this.canvas.width / this.width;
    Object.assign(this.layer, { width: this.canvas.width, height: this.canvas.height });
    const context = this.layer.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "10.5px system-ui, sans-serif";
    this.context = context;
    const spare = Math.max(0, this.height - LANES.reduce((sum, [, tall]) => sum + tall, 0) - 4);
    let top = 0;
    this.tops = {};
    for (const [name, least] of LANES) {
      const tall = least + (name === "tick" || name === "network" ? spare / 2 : 0);
      this.tops[name] = [top, tall];
      context.fillStyle = name === "" ? "transparent" : "rgba(255,255,255,0.022)";
      context.fillRect(GUTTER, top + 1, this.width, tall - 2);
      context.fillStyle = "#8b98a9";
      context.textBaseline = "middle";
      context.textAlign = "left";
      context.fillText(name, 10, top + Math.min(tall / 2, 12));
      top += tall;
    }
    context.save();
    context.beginPath();
    context.rect(GUTTER, 0, this.width - GUTTER, this.height);
    context.clip();
    this.drawRuler();
    this.drawGaps();
    this.drawKills();
    this.drawShots();
    for (const kind of ["refusal", "flag"]) this.drawMarks(kind, "refused");
    for (const kind of ["join", "leave"]) this.drawMarks(kind, "people");
    this.drawStages();
    this.drawNetwork();
    context.restore();
  }

  drawRuler() {
    const { context, rate } = this;
    const seconds = (this.high - this.low) / rate;
    const step = STEPS_S.find((each) => (each / seconds) * (this.width - GUTTER) >= 68) || STEPS_S[STEPS_S.length - 1];
    context.fillStyle = "#8b98a9";
    context.textAlign = "left";
    for (let time = Math.ceil(this.low / rate / step) * step; time * rate <= this.high; time += step) {
      const x = Math.round(this.x(time * rate)) + 0.5;
      context.fillText(clock(time, step), x + 4, 7);
      context.fillStyle = "rgba(160,190,220,0.10)";
      context.fillRect(x - 0.5, 0, 1, this.height);
      context.fillStyle = "#8b98a9";
    }
    for (const [tick] of this.marks.match_started || []) {
      context.fillStyle = "rgba(230,237,245,0.5)";
      context.fillRect(this.x(tick), 0, 1.2, this.height);
    }
  }

  /** Where the recording has holes. */
  drawGaps() {
    const { context } = this;
    const edges = this.spans.slice(1).map(([low], number) => [this.spans[number][1], low]);
    for (const [from, to] of edges) {
      const [a, b] = [this.x(from), Math.max(this.x(to), this.x(from) + 2)];
      context.fillStyle = "rgba(255,107,107,0.16)";
      context.fillRect(a, 0, b - a, this.height);
    }
  }

  /** How many marks each pixel column has. */
  density(ticks) {
    const counts = [];
    let before = countBelow(ticks, this.tickAt(GUTTER));
    for (let x = GUTTER; x < this.width; x += 1) {
      const here = countBelow(ticks, this.tickAt(x + 1));
      counts.push(here - before);
      before = here;
    }
    return counts;
  }

  bars(counts, most, [top, tall], colour) {
    const { context } = this;
    context.fillStyle = colour;
    counts.forEach((count, number) => {
      if (!count) return;
      const high = Math.max(2, Math.sqrt(count / most) * (tall - 4));
      context.fillRect(GUTTER + number, top + tall - 2 - high, 1, high);
    });
  }

  shown(rows) {
    return rows.filter(([tick]) => tick >= this.low - 1 && tick <= this.high + 1);
  }

  drawKills() {
    const rows = this.shown(this.marks.kill || []);
    const lane = this.tops.kills;
    const mine = rows.filter(([, actor, target]) => this.row >= 0 && (actor === this.row || target === this.row));
    if (rows.length > (this.width - GUTTER) / 5) {
      const counts = this.density(rows.map(([tick]) => tick));
      this.bars(counts, Math.max(2, ...counts), lane, COLOURS.kill);
    } else for (const [tick] of rows) this.sign(this.x(tick), lane, COLOURS.kill, 3.6);
    for (const [tick, actor, target] of mine) {
      this.sign(this.x(tick), lane, actor === this.row && target !== this.row ? COLOURS.mine : COLOURS.death, 4.6);
    }
  }

  drawShots() {
    if (!this.shots) return;
    const lane = this.tops.shots;
    const counts = this.density(this.shots.ticks);
    const most = Math.max(2, ...counts);
    this.bars(counts, most, lane, COLOURS.shots);
    if (this.own) this.bars(this.density(this.own), most, lane, COLOURS.own);
  }

  drawMarks(kind, lane) {
    const rows = this.shown(this.marks[kind] || []);
    if (rows.length > (this.width - GUTTER) / 4) {
      const counts = this.density(rows.map(([tick]) => tick));
      this.bars(counts, Math.max(2, ...counts), this.tops[lane], COLOURS[kind]);
      return;
    }
    for (const [tick, actor] of rows) {
      this.sign(this.x(tick), this.tops[lane], COLOURS[kind], actor === this.row && this.row >= 0 ? 5 : 3.4);
    }
  }

  /** A small diamond. */
  sign(x, [top, tall], colour, size) {
    const { context } = this;
    const y = top + tall / 2;
    context.fillStyle = colour;
    context.beginPath();
    context.moveTo(x, y - size);
    context.lineTo(x + size * 0.8, y);
    context.lineTo(x, y + size);
    context.lineTo(x - size * 0.8, y);
    context.fill();
  }

  /** The rows of a figure that are to be seen: one for every pixel or so, the greatest of those that it stands for. */
  rowsShown(ticks) {
    const [from, to] = [Math.max(0, countBelow(ticks, this.low) - 1), Math.min(ticks.length, countBelow(ticks, this.high) + 2)];
    const every = Math.max(1, Math.floor((to - from) / Math.max(1, this.width - GUTTER)));
    const groups = [];
    for (let at = from; at < to; at += every) groups.push([at, Math.min(to, at + every)]);
    return groups;
  }

  drawStages() {
    const { context, stages } = this;
    const [top, tall] = this.tops.tick;
    if (!stages || !stages.ticks.length) return this.nothing("tick", "no stage times were noted");
    const groups = this.rowsShown(stages.ticks);
    const sums = groups.map(([a, b]) => stages.names.map((_, part) => Math.max(...stages.us[part].slice(a, b))));
    const most = Math.max(1, ...sums.map((row) => row.reduce((sum, value) => sum + value, 0)));
    groups.forEach(([at, end], number) => {
      const right = this.x(stages.ticks[Math.min(end - 1, stages.ticks.length - 1)]);
      const left = this.x(at ? stages.ticks[at - 1] : this.first);
      let y = top + tall - 1;
      sums[number].forEach((value, part) => {
        const high = (value / most) * (tall - 4);
        context.fillStyle = STAGE_COLOURS[part % STAGE_COLOURS.length];
        context.fillRect(left, y - high, Math.max(1, right - left), high);
        y -= high;
      });
    });
    this.note("tick", `${(most / 1000).toFixed(2)} ms`);
    return undefined;
  }

  drawNetwork() {
    const { context, network } = this;
    const [top, tall] = this.tops.network;
    if (this.followed === null) return this.nothing("network", "follow a player to see its connection");
    if (!network || !network.ticks.length) return this.nothing("network", "nothing was noted of this player's connection");
    const groups = this.rowsShown(network.ticks);
    const ms = Math.max(20, ...network.rtt, ...network.delay) * 1.1;
    const most = { rtt: ms, delay: ms, kbps: Math.max(1, ...network.kbps) * 1.1, loss: Math.max(10, ...network.loss) * 1.1 };
    for (const [key, , colour] of NETWORK_LINES) {
      context.strokeStyle = context.fillStyle = colour;
      context.lineWidth = 1.3;
      context.beginPath();
      let before = -Infinity;
      for (const [at, end] of groups) {
        const value = Math.max(...network[key].slice(at, end));
        const tick = network.ticks[at];
        const x = this.x(tick);
        const high = (value / most[key]) * (tall - 4);
        if (key === "loss") context.fillRect(x - 1, top + tall - 1 - high, 2, high);
        else if (tick - before > this.rate * 5 * (end - at)) context.moveTo(x, top + tall - 1 - high);
        else context.lineTo(x, top + tall - 1 - high);
        before = tick;
      }
      context.stroke();
    }
    return undefined;
  }

  nothing(lane, text) {
    const { context } = this;
    const [top, tall] = this.tops[lane];
    context.fillStyle = "rgba(139,152,169,0.7)";
    context.textAlign = "left";
    context.fillText(text, GUTTER + 8, top + tall / 2);
  }

  note(lane, text) {
    const { context } = this;
    context.fillStyle = "rgba(230,237,245,0.75)";
    context.textAlign = "right";
    context.fillText(text, this.width - 6, this.tops[lane][0] + 9);
  }

  // The user's hands

  listen() {
    const { canvas } = this;
    const to = (event) => Math.max(this.first, Math.min(this.last, this.tickAt(event.offsetX)));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.dragging = true;
      this.on.scrub(to(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.dragging) this.on.scrub(to(event));
      this.hover(event);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!this.dragging) return;
      this.dragging = false;
      const mark = this.markAt(event.offsetX, event.offsetY);
      this.on.seek(mark ? mark.tick : to(event));
    });
    canvas.addEventListener("pointercancel", () => { this.dragging = false; });
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    canvas.addEventListener("dblclick", () => this.whole());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const along = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
      if (!along) return this.zoom(Math.exp(event.deltaY * 0.0016), this.tickAt(Math.max(GUTTER, event.offsetX)));
      const by = ((event.deltaX || event.deltaY) / this.width) * (this.high - this.low);
      return this.show(this.low + by, this.high + by);
    }, { passive: false });
  }

  /** The stages of the tick about a moment, the longest first, as text; empty where nothing is known. */
  stagesAt(tick) {
    const { stages } = this;
    const at = stages ? Math.min(stages.ticks.length - 1, countBelow(stages.ticks, tick)) : -1;
    if (at < 0) return "";
    const times = stages.names.map((name, part) => [stages.us[part][at], name]).sort((a, b) => b[0] - a[0]);
    return times.slice(0, 4).map(([us, name]) => `${name} ${us.toFixed(us < 10 ? 1 : 0)} µs`).join(" · ");
  }

  laneAt(y) {
    return Object.keys(this.tops || {}).find((name) => y >= this.tops[name][0] && y < this.tops[name][0] + this.tops[name][1]);
  }

  /** The mark under the pointer, with its kind. */
  markAt(x, y) {
    const lane = this.laneAt(y);
    const kinds = { kills: ["kill"], refused: ["refusal", "flag"], people: ["join", "leave"] }[lane] || [];
    let best = null;
    let least = MARK_NEAR_PX;
    for (const kind of kinds) {
      for (const [tick, actor, target, value] of this.shown(this.marks[kind] || [])) {
        const away = Math.abs(this.x(tick) - x);
        if (away < least) [best, least] = [{ kind, tick, actor, target, value }, away];
      }
    }
    return best;
  }

  hover(event) {
    const { tip } = this;
    const tick = this.tickAt(event.offsetX);
    tip.hidden = event.offsetX < GUTTER;
    if (tip.hidden) return;
    tip.textContent = this.on.describe(this.markAt(event.offsetX, event.offsetY), Math.round(tick), this.laneAt(event.offsetY));
    tip.style.left = `${Math.max(4, Math.min(this.width - tip.offsetWidth - 4, event.offsetX - tip.offsetWidth / 2))}px`;
  }
}
