// Shots of a recorded match: the list around the present moment, and one of them explained, as `hitreg replay shot` does,
// with the bodies, and the doors and lifts, where the server looked for them and where they were at that tick.

import { element } from "./board.js";
import { clock, countBelow } from "./timeline.js";

const get = (id) => document.getElementById(id);
const BEFORE = 6;
const AFTER = 3;
const RING_STEPS = 14;
const REWOUND = "#6ee7c8";
const PRESENT = "#8b98a9";
const HIT = "#ff6b6b";
const RAY = "#f6d365";
const WALL = "#ffb56b";

/** Lines round a hitbox, a sphere or an upright capsule of one radius from `low` to `high` [m above the feet]. */
function outline(feet, { low, high, radius }, colour, alpha) {
  const lines = [];
  const point = (angle, up, part) => [feet[0] + Math.cos(angle) * radius * part, feet[1] + Math.sin(angle) * radius * part, feet[2] + up];
  const add = (from, to) => lines.push({ from, to, colour, width: 0.012, alpha });
  for (let step = 0; step < RING_STEPS; step += 1) {
    const [a, b] = [step, step + 1].map((each) => (each / RING_STEPS) * 2 * Math.PI);
    add(point(a, low, 1), point(b, low, 1));
    if (high > low) add(point(a, high, 1), point(b, high, 1));
  }
  for (const angle of [0, Math.PI / 2]) {
    for (let step = 0; step < RING_STEPS; step += 1) {
      const arc = (each) => {
        const turn = (each / RING_STEPS) * 2 * Math.PI;
        return point(angle, Math.sin(turn) * radius + (Math.sin(turn) >= 0 ? high : low), Math.cos(turn));
      };
      add(arc(step), arc(step + 1));
    }
  }
  return lines;
}

/** Lines along the edges of a box: a mover as it stood when the shot was judged. */
function edges(low, high, colour, alpha) {
  const lines = [];
  const corner = (bits) => low.map((value, axis) => (bits & (1 << axis) ? high[axis] : value));
  for (let axis = 0; axis < 3; axis += 1) {
    for (let bits = 0; bits < 8; bits += 1) {
      if (!(bits & (1 << axis))) lines.push({ from: corner(bits), to: corner(bits | (1 << axis)), colour, width: 0.02, alpha });
    }
  }
  return lines;
}

export class Shots {
  /** `on.go(tick)`, `on.explain(number)`, `on.nameOf(entity)` and `on.now()`, the present position in ticks. */
  constructor(match, on) {
    Object.assign(this, { match, on, chosen: 0 });
    get("shot-close").addEventListener("click", () => this.close());
    get("shot-previous").addEventListener("click", () => this.step(-1));
    get("shot-next").addEventListener("click", () => this.step(1));
    this.clear();
  }

  clear() {
    Object.assign(this, { ticks: new Uint32Array(0), rows: new Uint16Array(0), players: [], own: null, followed: null, key: "" });
    this.close();
  }

  setIndex({ players }) {
    this.players = players;
    this.follow(this.followed);
  }

  setShots(shots) {
    if (shots) Object.assign(this, { ticks: shots.ticks, rows: shots.players });
    this.follow(this.followed);
  }

  /** Numbers of the shots to step through: those of one player, or all. */
  follow(id) {
    this.followed = id;
    this.key = "";
    const row = id === null ? -1 : this.players.findIndex(([entity]) => entity === String(id));
    this.own = id === null ? null : Array.from(this.rows.keys()).filter((at) => this.rows[at] === row);
    this.ownTicks = this.own ? this.own.map((at) => this.ticks[at]) : this.ticks;
  }

  get count() {
    return this.own ? this.own.length : this.ticks.length;
  }

  indexOf(place) {
    return this.own ? this.own[place] : place;
  }

  /** Go to the shot before or after the one chosen, or the present tick. */
  step(by) {
    if (!this.count) return;
    const tick = Math.round(this.on.now()); // not where the list was drawn last: it is drawn a few times a second
    let place = this.chosen ? (this.own ? this.own.indexOf(this.chosen - 1) : this.chosen - 1) : -1;
    if (place < 0 || this.ownTicks[place] !== tick) {
      place = by > 0 ? countBelow(this.ownTicks, tick + 1) : countBelow(this.ownTicks, tick) - 1;
    } else place += by;
    if (place >= 0 && place < this.count) this.choose(this.indexOf(place));
  }

  choose(index) {
    this.chosen = index + 1;
    this.explained = null;
    this.key = "";
    get("shot").hidden = false;
    get("shot-title").textContent = `Shot ${this.chosen}`;
    get("shot-verdict").textContent = "asking…";
    get("shot-text").textContent = "";
    this.on.go(this.ticks[index]);
    this.on.explain(this.chosen, this.ticks[index]);
  }

  close() {
    this.chosen = 0;
    this.explained = null;
    this.key = "";
    get("shot").hidden = true;
  }

  /** An explanation came. */
  explain(message) {
    if (message.number !== this.chosen) return;
    this.explained = message;
    get("shot-verdict").textContent = message.verdict || "";
    get("shot-text").textContent = message.text;
  }

  /** Refresh the list. */
  draw(position) {
    const here = countBelow(this.ownTicks || this.ticks, position + 1);
    const key = `${here} ${this.chosen} ${this.count}`;
    if (key === this.key) return;
    this.key = key;
    get("shots-whose").textContent = this.followed === null ? `All shots: ${this.count}` : `Its shots: ${this.count}`;
    const lines = [];
    for (let place = Math.max(0, here - BEFORE); place < Math.min(this.count, here + AFTER); place += 1) {
      lines.push(this.line(this.indexOf(place), place >= here));
    }
    if (!lines.length) lines.push(element("li", "muted", this.followed === null ? "No shots were noted." : "It did not shoot."));
    get("shots").replaceChildren(...lines);
  }

  line(index, later) {
    const item = element("li", later ? "later" : "");
    if (index + 1 === this.chosen) item.classList.add("chosen");
    const button = element("button");
    button.type = "button";
    button.dataset.testid = "shot-line";
    const player = this.players[this.rows[index]];
    button.append(element("span", "", `${index + 1}`), element("span", "", clock(this.ticks[index] / this.match.rate)),
      element("span", "", player ? this.on.nameOf(player[0]) : "?"));
    button.addEventListener("click", () => this.choose(index));
    item.append(button);
    return item;
  }

  /** Add what is explained to a scene: ray, hitboxes as they were judged, and where the same bodies were at the tick. */
  add(scene) {
    const shown = this.explained && this.explained.drawing;
    if (!shown || Math.abs(scene.tick - this.explained.tick) > this.match.rate * 2) return scene;
    const lines = shown.rays.map(({ from, to, hit }) => ({ from, to, colour: hit ? HIT : RAY, width: 0.02, alpha: 1.5 }));
    for (const body of shown.bodies) {
      for (const box of body.boxes) {
        lines.push(...outline(body.feet, box, box.hit ? HIT : REWOUND, box.hit ? 1.6 : 1.1));
      }
      for (const box of body.boxes_now) lines.push(...outline(body.feet_now, box, PRESENT, 0.5));
    }
    for (const { low, high, stops } of shown.movers) lines.push(...edges(low, high, stops ? WALL : PRESENT, stops ? 1.1 : 0.6));
    return { ...scene, lines };
  }

  /** The same on the map from above. */
  mark(plan, scene) {
    const { context } = plan;
    for (const { from, to, colour, alpha, width } of scene.lines || []) {
      context.strokeStyle = colour;
      context.globalAlpha = Math.min(1, alpha * 0.62);
      context.lineWidth = width > 0.015 ? 2.2 : 1;
      context.beginPath();
      context.moveTo(...plan.toScreen(from));
      context.lineTo(...plan.toScreen(to));
      context.stroke();
    }
    context.globalAlpha = 1;
  }
}
