// The picture of a match, live or recorded: the map from above or in three dimensions, who is followed, and the
// user's hands on it. Pages wire it to where their scenes come from.

import { FLAG } from "./feed.js";
import { PlanBaker, footprints } from "./mesh.js";
import { sharpen } from "./board.js";
import { Plan } from "./plan.js";
import { View3d } from "./view3d.js";

const get = (id) => document.getElementById(id);
const SLOW_FRAME_MS = 40;
const HEADROOM_M = 2.4;
const CLICK_PX = 4;
const REFINE_MS = 100; // the map is shown before a finer picture of it is drawn

export class Stage {
  /**
   * @param match What is known of the match.
   * @param hooks `marks` draws on the plan, `relation(id)` paints players, `onSelect(id)` hears who is followed.
   */
  constructor(match, hooks) {
    this.match = match;
    this.hooks = hooks;
    this.box = get("stage");
    this.world = get("world");
    this.overlay = get("overlay");
    this.plan = new Plan(this.overlay.getContext("2d"));
    this.scene = match.scene(0);
    Object.assign(this, { mode: "map", selected: null, followed: false, mesh: null, baker: null, view: null,
      fitted: false, resolution: 1, slow: 0, cutTimer: 0, refineTimer: 0, keys: new Set() });
    this.drag = { moved: 0, x: 0, y: 0, pointers: new Map(), spread: 0 };
    try {
      this.view = new View3d(this.world);
    } catch {
      document.querySelectorAll("[data-mode]:not([data-mode=map])").forEach((button) => {
        button.disabled = true;
        button.title = "This browser has no WebGL 2";
      });
    }
    this.listen();
    this.setMode("map");
  }

  // The map

  /** Another match begins: forget the map of the last. */
  begin() {
    Object.assign(this, { fitted: false, mesh: null, baker: null });
    Object.assign(this.plan, { background: null, movers: [] });
    if (this.view) this.view.setMesh(null);
    this.fit();
  }

  setPicture(image, low, high) {
    if (!this.baker) this.plan.background = { image, low, high };
  }

  setMesh(mesh) {
    this.mesh = mesh;
    this.view.setMesh(mesh);
    this.placeFreeCamera();
    const { floors, movers } = this.match.info;
    this.baker = new PlanBaker(mesh, movers);
    this.plan.movers = footprints(mesh, movers || []);
    const range = get("floor");
    Object.assign(range, { min: Math.floor(mesh.low[2]), max: Math.ceil(mesh.high[2]), step: 0.2 });
    range.value = floors.length ? Math.max(...floors) + HEADROOM_M : range.max;
    get("floor-box").classList.add("usable");
    this.cut();
  }

  cut() {
    if (!this.baker) return;
    const height = Number(get("floor").value);
    get("floor-text").textContent = height >= Number(get("floor").max) ? "all" : `${height.toFixed(1)} m`;
    this.view.roof = height + 1e-3;
    this.plan.roof = this.view.roof;
    this.plan.background = this.baker.bake(this.view.roof);
    clearTimeout(this.refineTimer);
    this.refineTimer = setTimeout(() => { if (this.baker && this.baker.refine()) this.cut(); }, REFINE_MS);
  }

  placeFreeCamera() {
    const { low, high } = this.mesh;
    const span = Math.max(high[0] - low[0], high[1] - low[1]);
    const long = high[0] - low[0] >= high[1] - low[1]; // look across the shorter side, so that the map fills the view
    const height = Math.min(high[2], low[2] + span * 0.3) + span * 0.42;
    const middle = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    const eye = long ? [middle[0], low[1] - span * 0.12, height] : [low[0] - span * 0.12, middle[1], height];
    this.view.camera = { eye, yaw: long ? Math.PI / 2 : 0, pitch: -0.82 };
  }

  fit() {
    if (!this.match.info || this.plan.size[0] < 2) return;
    this.plan.fit(this.match.info.bounds_low, this.match.info.bounds_high);
    this.fitted = true;
  }

  // Following

  select(id) {
    this.selected = id;
    this.followed = id !== null;
    if (this.view) this.view.ready = false;
    if (id !== null && this.mode === "free") this.setMode("third");
    this.hooks.onSelect(id);
  }

  step(by) {
    const { players } = this.scene;
    if (!players.length) return;
    const order = players.filter((player) => player.flags & FLAG.alive);
    const list = order.length ? order : players;
    const at = list.findIndex((player) => player.id === this.selected);
    this.select(list[(at + by + list.length) % list.length].id);
  }

  leader() {
    const best = this.scene.players.reduce((most, player) => (!most || player.score > most.score ? player : most), null);
    if (best) this.select(best.id);
  }

  setMode(mode) {
    if (mode !== "map" && !this.view) return;
    this.mode = mode;
    document.querySelectorAll("[data-mode]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    });
    this.box.dataset.mode = mode;
    if ((mode === "third" || mode === "first") && this.selected === null) this.leader();
    if (this.view) this.view.ready = false;
  }

  // Drawing

  resize() {
    const [, width, height] = sharpen(this.overlay);
    const { plan, world } = this;
    const changed = plan.size[0] !== width || plan.size[1] !== height;
    plan.size = [width, height];
    if (changed && !this.fitted) this.fit();
    const ratio = Math.min(2, window.devicePixelRatio || 1) * this.resolution;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (world.width !== wide || world.height !== high) Object.assign(world, { width: wide, height: high });
  }

  /** Draw fewer pixels on a machine that cannot keep up: steady beats sharp. */
  adapt(elapsed) {
    this.slow = this.mode !== "map" && elapsed > SLOW_FRAME_MS && elapsed < 1000 ? this.slow + 1 : Math.max(0, this.slow - 1);
    if (this.slow > 30 && this.resolution > 0.5) {
      this.resolution -= 0.25;
      this.slow = 0;
    }
  }

  /** Draw a scene; `elapsed` ms since the last. */
  draw(scene, elapsed) {
    this.scene = scene;
    if (!this.match.info) return;
    if (this.mode === "map") this.drawMap(elapsed / 1000);
    else this.drawWorld(elapsed / 1000);
    this.adapt(elapsed);
  }

  drawWorld(seconds) {
    const { view, scene, plan, match, hooks, mode, selected } = this;
    if (mode === "free") this.flyByKeys(seconds);
    const cutaway = view.aim(mode, scene.byId.get(selected), match.info, seconds);
    view.draw(scene, match, mode, selected, cutaway, hooks);
    if (plan.names) view.label(plan.context, scene, match, mode, selected, plan.size, hooks);
    else plan.context.clearRect(0, 0, ...plan.size);
  }

  flyByKeys(seconds) {
    const speed = (this.keys.has("shift") ? 40 : 14) * seconds;
    const axis = (plus, minus) => (this.keys.has(plus) ? speed : 0) - (this.keys.has(minus) ? speed : 0);
    this.view.fly(axis("w", "s"), axis("d", "a"), axis("e", "q"));
  }

  drawMap(seconds) {
    const { plan, scene } = this;
    const player = scene.byId.get(this.selected);
    if (player && this.followed) {
      const ease = 1 - Math.exp(-seconds * 8);
      plan.centre = plan.centre.map((value, axis) => value + (player.p[axis] - value) * ease);
    }
    plan.draw(scene, this.match, this.selected, this.hooks.marks);
    const metres = plan.gridStep;
    get("scale").firstElementChild.style.width = `${metres * plan.scale}px`;
    get("scale").lastElementChild.textContent = `${metres} m`;
  }

  // The user's hands

  turnCamera(dx, dy) {
    const target = this.mode === "third" ? this.view.orbit : this.view.camera;
    target.yaw -= dx * 0.005;
    target.pitch = Math.max(-1.45, Math.min(1.45, target.pitch - dy * 0.005));
  }

  dragged(dx, dy) {
    const { plan } = this;
    if (this.mode === "map") {
      this.followed = false;
      plan.centre = [plan.centre[0] - dx / plan.scale, plan.centre[1] + dy / plan.scale];
    } else if (this.mode !== "first") this.turnCamera(dx, dy);
  }

  zoom(factor, x, y) {
    const { plan, view } = this;
    if (this.mode === "map") plan.zoom(factor, this.followed ? plan.size[0] / 2 : x, this.followed ? plan.size[1] / 2 : y);
    else if (this.mode === "third") view.orbit.reach = Math.max(1.5, Math.min(40, view.orbit.reach / factor));
    else if (this.mode === "free") view.fly(Math.log(factor) * 12, 0, 0);
  }

  listen() {
    const { overlay } = this;
    overlay.addEventListener("pointerdown", (event) => {
      overlay.setPointerCapture(event.pointerId);
      this.drag.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
      Object.assign(this.drag, { moved: 0, x: event.offsetX, y: event.offsetY, spread: 0 });
    });
    overlay.addEventListener("pointermove", (event) => this.moved(event));
    overlay.addEventListener("pointerup", (event) => this.released(event));
    overlay.addEventListener("pointercancel", (event) => this.drag.pointers.delete(event.pointerId));
    overlay.addEventListener("dblclick", () => { if (this.mode === "map" && this.selected !== null) this.setMode("third"); });
    overlay.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
    }, { passive: false });
    document.querySelectorAll("[data-mode]").forEach((button) => {
      button.addEventListener("click", () => this.setMode(button.dataset.mode));
    });
    get("help-open").addEventListener("click", () => get("help").showModal());
    get("card-previous").addEventListener("click", () => this.step(-1));
    get("card-next").addEventListener("click", () => this.step(1));
    get("card-close").addEventListener("click", () => this.select(null));
    get("floor").addEventListener("input", () => {
      clearTimeout(this.cutTimer);
      this.cutTimer = setTimeout(() => this.cut(), 60);
    });
  }

  moved(event) {
    const { drag } = this;
    if (!drag.pointers.has(event.pointerId)) return;
    drag.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (drag.pointers.size === 2) {
      const [a, b] = [...drag.pointers.values()];
      const spread = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (drag.spread) this.zoom(spread / drag.spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      drag.spread = spread;
      drag.moved = Infinity;
      return;
    }
    const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
    drag.moved += Math.hypot(dx, dy);
    Object.assign(drag, { x: event.offsetX, y: event.offsetY });
    if (drag.moved > CLICK_PX) this.dragged(dx, dy);
  }

  released(event) {
    this.drag.pointers.delete(event.pointerId);
    if (this.drag.moved > CLICK_PX) return;
    const found = this.mode === "map" ? this.plan.pick(this.scene, event.offsetX, event.offsetY)
      : this.view.pick(this.scene, event.offsetX, event.offsetY, this.plan.size);
    if (found) this.select(found.id);
  }

  /** What keys do on every page; a page adds its own and gives all of them to `hearKeys`. */
  actions() {
    const { plan } = this;
    const middle = () => [plan.size[0] / 2, plan.size[1] / 2];
    return {
      1: () => this.setMode("map"), 2: () => this.setMode("third"), 3: () => this.setMode("first"), 4: () => this.setMode("free"),
      n: () => this.step(1), b: () => this.step(-1), l: () => this.leader(), escape: () => this.select(null),
      "+": () => this.zoom(1.25, ...middle()), "=": () => this.zoom(1.25, ...middle()), "-": () => this.zoom(0.8, ...middle()),
      0: () => { this.followed = false; this.fit(); },
      t: () => { plan.names = !plan.names; },
      p: () => document.body.classList.toggle("bare"),
      "?": () => get("help").showModal(),
    };
  }

  hearKeys(actions) {
    window.addEventListener("keydown", (event) => {
      if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey || get("help").open) return;
      const key = event.key.toLowerCase();
      this.keys.add(key);
      const action = actions[key];
      // A focused button keeps its own keys; arrows scroll lists.
      if (!action || (key === " " && event.target instanceof HTMLButtonElement)) return;
      if (key.startsWith("arrow") && event.target.closest(".side, .shot")) return;
      event.preventDefault();
      action(event);
    });
    window.addEventListener("keyup", (event) => this.keys.delete(event.key.toLowerCase()));
    window.addEventListener("blur", () => this.keys.clear());
  }
}
