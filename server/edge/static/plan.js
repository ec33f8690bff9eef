// The match from above, on a 2-D canvas: the plan, doors and lifts, pickups, view cones, tracers, players, names.

import { FLAG } from "./feed.js";

const CONE_M = 7;
const CONE_HALF = 0.45;
const NAMES_MAX = 160;
const NAMES_DENSE = 24;
const DENSE = 180;
const PICK_PIXELS = 26;
const MOVER_FILL = "#5a5442";
const MOVER_EDGE = "#a89a68";

function rgba(colour, alpha) {
  return `${colour}${Math.round(Math.max(0, Math.min(1, alpha)) * 255).toString(16).padStart(2, "0")}`;
}

export class Plan {
  constructor(context) {
    this.context = context;
    this.centre = [0, 0];
    this.scale = 10; // pixels per metre
    this.background = null; // {image, low, high}
    this.movers = []; // {path, bottom} at rest [m]
    this.roof = Infinity; // above it everything is taken away
    this.names = true;
    this.size = [1, 1];
    this.dense = false; // so many on the screen that rings and cones would hide them
  }

  fit(low, high) {
    const margin = 1.06;
    this.centre = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    this.scale = Math.min(this.size[0] / ((high[0] - low[0]) * margin || 1), this.size[1] / ((high[1] - low[1]) * margin || 1));
  }

  toScreen(p) {
    return [this.size[0] / 2 + (p[0] - this.centre[0]) * this.scale, this.size[1] / 2 - (p[1] - this.centre[1]) * this.scale];
  }

  toWorld(x, y) {
    return [this.centre[0] + (x - this.size[0] / 2) / this.scale, this.centre[1] - (y - this.size[1] / 2) / this.scale];
  }

  zoom(factor, x, y) {
    const before = this.toWorld(x, y);
    this.scale = Math.min(240, Math.max(0.2, this.scale * factor));
    const after = this.toWorld(x, y);
    this.centre = [this.centre[0] + before[0] - after[0], this.centre[1] + before[1] - after[1]];
  }

  pick(scene, x, y) {
    let best = null;
    let least = PICK_PIXELS;
    for (const player of scene.players) {
      const [px, py] = this.toScreen(player.p);
      const away = Math.hypot(px - x, py - y);
      if (away < least) [best, least] = [player, away];
    }
    return best;
  }

  draw(scene, match, selected, marks) {
    const { context } = this;
    context.clearRect(0, 0, ...this.size);
    this.drawGround();
    this.drawMovers(scene.movers || []);
    this.drawPickups(scene, match);
    const alive = scene.players.filter((player) => player.flags & FLAG.alive && this.onScreen(player.p));
    this.dense = alive.length > DENSE;
    this.drawCones(alive, match);
    if (scene.truth) this.drawTruth(scene);
    marks.mark(this, scene);
    this.drawEffects(scene);
    this.drawProjectiles(scene);
    for (const player of scene.players) if (!(player.flags & FLAG.alive)) this.drawDead(player, match);
    this.drawPlayers(alive, match, scene, selected);
    if (this.names) this.drawNames(alive, match, selected);
  }

  /** Where players really are, faintly, with a line to where they are told to be. */
  drawTruth(scene) {
    const { context } = this;
    const radius = this.radius() * 0.6;
    for (const player of scene.truth) {
      if (!(player.flags & FLAG.alive)) continue;
      const [x, y] = this.toScreen(player.p);
      this.ring(x, y, radius, "rgba(230,237,245,0.35)", 1);
      const known = scene.byId.get(player.id);
      if (!known) continue;
      const [kx, ky] = this.toScreen(known.p);
      if (Math.hypot(kx - x, ky - y) < radius) continue;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(kx, ky);
      context.stroke();
    }
  }

  drawGround() {
    const { context, background } = this;
    if (background) {
      const [x, y] = this.toScreen([background.low[0], background.high[1]]);
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "medium";
      context.drawImage(background.image, x, y, (background.high[0] - background.low[0]) * this.scale,
        (background.high[1] - background.low[1]) * this.scale);
    }
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((metres) => metres * this.scale >= 70) || 1000;
    this.gridStep = step;
    const [low, high] = [this.toWorld(0, this.size[1]), this.toWorld(this.size[0], 0)];
    context.strokeStyle = "rgba(160,190,220,0.055)";
    context.lineWidth = 1;
    context.beginPath();
    for (let x = Math.ceil(low[0] / step) * step; x < high[0]; x += step) {
      const at = Math.round(this.toScreen([x, 0])[0]) + 0.5;
      context.moveTo(at, 0);
      context.lineTo(at, this.size[1]);
    }
    for (let y = Math.ceil(low[1] / step) * step; y < high[1]; y += step) {
      const at = Math.round(this.toScreen([0, y])[1]) + 0.5;
      context.moveTo(0, at);
      context.lineTo(this.size[0], at);
    }
    context.stroke();
  }

  /** Doors and lifts, each shifted from its resting place to where it is; the outline first, so that it stays outside. */
  drawMovers(shifts) {
    const { context } = this;
    context.fillStyle = MOVER_FILL;
    context.strokeStyle = MOVER_EDGE;
    context.lineWidth = 2.5 / this.scale;
    this.movers.forEach(({ path, bottom }, number) => {
      const shift = shifts[number] || [0, 0, 0];
      if (bottom + shift[2] > this.roof) return;
      context.save();
      context.translate(...this.toScreen(shift));
      context.scale(this.scale, -this.scale);
      context.stroke(path);
      context.fill(path);
      context.restore();
    });
  }

  radius() {
    return Math.min(15, Math.max(this.dense ? 4 : 5.5, this.scale * (this.dense ? 0.5 : 0.72)));
  }

  drawPickups(scene, match) {
    const { context } = this;
    const size = Math.max(2.4, this.radius() * 0.55);
    const kinds = match.info ? match.info.pickups : [];
    for (const pickup of scene.pickups) {
      const [x, y] = this.toScreen(pickup.p);
      const name = kinds[pickup.kind] || "";
      const colour = name.includes("health") ? "#7ee787" : name.includes("armour") ? "#58a6ff" : "#f2cc60";
      context.beginPath();
      context.moveTo(x, y - size);
      context.lineTo(x + size, y);
      context.lineTo(x, y + size);
      context.lineTo(x - size, y);
      context.closePath();
      context.strokeStyle = rgba(colour, pickup.available ? 0.95 : 0.25);
      context.lineWidth = 1.2;
      if (pickup.available) {
        context.fillStyle = rgba(colour, 0.4);
        context.fill();
      }
      context.stroke();
    }
  }

  drawCones(alive, match) {
    const { context } = this;
    const reach = CONE_M * this.scale;
    if (reach < 12 || this.dense) return;
    for (const player of alive) {
      const [x, y] = this.toScreen(player.p);
      const colour = match.colourOf(player.team, player);
      const fade = context.createRadialGradient(x, y, 0, x, y, reach);
      fade.addColorStop(0, rgba(colour, 0.26));
      fade.addColorStop(1, rgba(colour, 0));
      context.fillStyle = fade;
      context.beginPath();
      context.moveTo(x, y);
      context.arc(x, y, reach, -player.yaw - CONE_HALF, -player.yaw + CONE_HALF);
      context.fill();
    }
  }

  drawEffects(scene) {
    const { context } = this;
    context.globalCompositeOperation = "lighter";
    context.lineCap = "round";
    for (const effect of scene.effects) {
      const age = Math.max(0, (scene.time - effect.start) / effect.life);
      const left = 1 - age;
      const [x, y] = this.toScreen(effect.p);
      if (effect.kind === "tracer") this.drawTracer(effect, x, y, age);
      else if (effect.kind === "spark") this.ring(x, y, 2 + 9 * age, rgba("#ffe08a", 0.9 * left), 2.2 * left);
      else if (effect.kind === "blast") {
        const radius = effect.radius * this.scale * (0.25 + 0.75 * Math.sqrt(age));
        const fill = context.createRadialGradient(x, y, 0, x, y, radius);
        fill.addColorStop(0, rgba("#fff3c4", 0.75 * left));
        fill.addColorStop(0.45, rgba("#ff9d4d", 0.45 * left));
        fill.addColorStop(1, rgba("#ff5a2b", 0));
        context.fillStyle = fill;
        context.beginPath();
        context.arc(x, y, radius, 0, 7);
        context.fill();
        this.ring(x, y, radius, rgba("#ffb56b", 0.6 * left), 1.5);
      } else if (effect.kind === "spawn") this.ring(x, y, 22 * left + 4, rgba(effect.colour, 0.8 * left), 2);
      else if (effect.kind === "taken") this.ring(x, y, 4 + 14 * age, rgba("#7ee787", 0.7 * left), 1.5);
    }
    context.globalCompositeOperation = "source-over";
  }

  drawTracer(effect, x, y, age) {
    const { context } = this;
    const [ex, ey] = this.toScreen(effect.end);
    const line = context.createLinearGradient(x, y, ex, ey);
    line.addColorStop(0, rgba(effect.colour, 0));
    line.addColorStop(Math.min(0.98, 0.15 + age * 0.8), rgba(effect.colour, 0.75 * (1 - age)));
    line.addColorStop(1, rgba("#fffbe6", 0.95 * (1 - age)));
    context.strokeStyle = line;
    context.lineWidth = Math.max(1, Math.min(2.4, this.scale * 0.12));
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(ex, ey);
    context.stroke();
  }

  ring(x, y, radius, colour, width) {
    const { context } = this;
    context.strokeStyle = colour;
    context.lineWidth = Math.max(0.5, width);
    context.beginPath();
    context.arc(x, y, Math.max(0.5, radius), 0, 2 * Math.PI);
    context.stroke();
  }

  drawProjectiles(scene) {
    const { context } = this;
    for (const projectile of scene.projectiles) {
      const [x, y] = this.toScreen(projectile.p);
      const size = Math.max(2, this.scale * 0.16);
      context.fillStyle = "rgba(255,170,80,0.25)";
      context.beginPath();
      context.arc(x, y, size * 2.6, 0, 7);
      context.fill();
      context.fillStyle = "#ffd9a0";
      context.beginPath();
      context.arc(x, y, size, 0, 7);
      context.fill();
    }
  }

  drawDead(player, match) {
    const { context } = this;
    const [x, y] = this.toScreen(player.p);
    const size = this.radius() * 0.5;
    context.strokeStyle = rgba(match.colourOf(player.team, player), 0.55);
    context.lineWidth = 1.6;
    context.beginPath();
    context.moveTo(x - size, y - size);
    context.lineTo(x + size, y + size);
    context.moveTo(x + size, y - size);
    context.lineTo(x - size, y + size);
    context.stroke();
  }

  onScreen(p) {
    const [x, y] = this.toScreen(p);
    return x > -40 && y > -40 && x < this.size[0] + 40 && y < this.size[1] + 40;
  }

  /** Arrows in one path per colour, because a thousand separate fills take longer than a frame. */
  drawPlayers(alive, match, scene, selected) {
    const { context } = this;
    const radius = this.radius();
    const paths = new Map();
    for (const player of alive) {
      const colour = match.colourOf(player.team, player);
      const path = paths.get(colour) || new Path2D();
      paths.set(colour, path);
      const [x, y] = this.toScreen(player.p);
      const [cos, sin] = [Math.cos(player.yaw) * radius, -Math.sin(player.yaw) * radius];
      path.moveTo(x + cos * 1.25, y + sin * 1.25);
      path.lineTo(x - cos * 0.85 - sin * 0.82, y - sin * 0.85 + cos * 0.82);
      path.lineTo(x - cos * 0.45, y - sin * 0.45);
      path.lineTo(x - cos * 0.85 + sin * 0.82, y - sin * 0.85 - cos * 0.82);
      path.closePath();
      if (!this.dense && player.health !== null) this.drawHealth(player, x, y, radius);
      if (player.id === selected) {
        const pulse = 1 + 0.12 * Math.sin(scene.time / 160);
        this.ring(x, y, (radius + 9) * pulse, "rgba(255,255,255,0.95)", 1.8);
      }
    }
    context.lineWidth = radius > 6 ? 1.6 : 1;
    context.strokeStyle = "rgba(5,8,12,0.9)";
    for (const [colour, path] of paths) {
      context.fillStyle = colour;
      context.stroke(path);
      context.fill(path);
    }
  }

  drawHealth(player, x, y, radius) {
    const { context } = this;
    const part = Math.max(0, Math.min(1, player.health / 100));
    const colour = part > 0.6 ? "#7ee787" : part > 0.3 ? "#f2cc60" : "#ff6b6b";
    const from = -Math.PI / 2;
    context.lineCap = "butt";
    context.lineWidth = 2.2;
    context.strokeStyle = "rgba(5,8,12,0.55)";
    context.beginPath();
    context.arc(x, y, radius + 4.5, 0, 2 * Math.PI);
    context.stroke();
    context.strokeStyle = colour;
    context.beginPath();
    context.arc(x, y, radius + 4.5, from, from + 2 * Math.PI * part);
    context.stroke();
    if (player.armour > 0) {
      context.strokeStyle = "rgba(120,180,255,0.85)";
      context.lineWidth = 1.2;
      context.beginPath();
      context.arc(x, y, radius + 7, from, from + 2 * Math.PI * Math.min(1, player.armour / 100));
      context.stroke();
    }
  }

  /** Names, none over another: the first to come takes the cells of a coarse grid that its name covers. */
  drawNames(alive, match, selected) {
    const { context } = this;
    const taken = new Set();
    const radius = this.radius();
    context.font = "500 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.lineJoin = "round";
    let drawn = 0;
    const order = alive.slice().sort((a, b) => (b.id === selected) - (a.id === selected) || b.score - a.score);
    for (const player of order) {
      if (drawn >= (this.dense ? NAMES_DENSE : NAMES_MAX)) break;
      const [x, y] = this.toScreen(player.p);
      const name = match.nameOf(player);
      const [top, half] = [y - radius - 13, name.length * 3.3];
      const cells = [];
      for (let cx = Math.floor((x - half) / 20); cx <= Math.floor((x + half) / 20); cx += 1) {
        for (let cy = Math.floor((top - 10) / 6); cy <= Math.floor((top + 3) / 6); cy += 1) cells.push(`${cx},${cy}`);
      }
      if (player.id !== selected && cells.some((cell) => taken.has(cell))) continue;
      cells.forEach((cell) => taken.add(cell));
      context.lineWidth = 3;
      context.strokeStyle = "rgba(5,8,12,0.85)";
      context.strokeText(name, x, top);
      context.fillStyle = player.id === selected ? "#ffffff" : "#cfd9e5";
      context.fillText(name, x, top);
      drawn += 1;
    }
  }
}
