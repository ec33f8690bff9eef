// Wires the feed, the match, the two views and the panels together, and takes the user's hands.

import { Feed, FLAG } from "./feed.js";
import { Match } from "./match.js";
import { loadMesh, PlanBaker } from "./mesh.js";
import { Panels, sharpen } from "./panels.js";
import { Plan } from "./plan.js";
import { decodeTold, Told } from "./told.js";
import { ToldPanel } from "./toldpanel.js";
import { View3d } from "./view3d.js";

const get = (id) => document.getElementById(id);
const PANEL_MS = 250;
const SLOW_FRAME_MS = 40;
const HEADROOM_M = 2.4;
const STATES = {
  waiting: ["waiting", "Waiting for a server to publish a match…"],
  live: ["live", ""],
  gone: ["server gone", "The server is gone. Waiting for it to come back…"],
  offline: ["reconnecting", "No connection to the edge. Trying again…"],
};

const stage = get("stage");
const worldCanvas = get("world");
const overlay = get("overlay");
const match = new Match();
const plan = new Plan(overlay.getContext("2d"));
const app = {
  mode: "map", selected: null, followed: false, keys: new Set(), mesh: null, baker: null, view: null, fitted: false,
  scene: match.scene(0), run: "", resolution: 1, slow: 0, lastDraw: 0, lastPanels: 0, cutTimer: 0,
  asTold: false,
};
const told = new Told();
const toldPanel = new ToldPanel(told, match);
const panels = new Panels(match, (id) => select(id));

// The page's state, for tests and the curious.
window.hitreg = {
  get frames() { return match.frameCount; },
  get players() { return app.scene.players.length; },
  get scene() { return app.scene; },
  get selected() { return app.selected === null ? null : String(app.selected); },
  get mode() { return app.mode; },
  get state() { return match.state; },
  get connections() { return feed.connections; },
  get centre() { return plan.centre.slice(); },
  get scale() { return plan.scale; },
  get camera() { return app.view ? { ...app.view.camera } : null; },
  get webgl() { return app.view !== null; },
  get mesh() { return app.mesh !== null; },
  get run() { return app.run; },
  get told() { return told; },
  get asTold() { return app.asTold; },
  screen: (id) => {
    const player = app.scene.byId.get(BigInt(id));
    return player ? plan.toScreen(player.p) : null;
  },
};

try {
  app.view = new View3d(worldCanvas);
} catch {
  document.querySelectorAll("[data-mode]:not([data-mode=map])").forEach((button) => {
    button.disabled = true;
    button.title = "This browser has no WebGL 2";
  });
}

// What the server sends

function setState(state) {
  match.state = state;
  const [short, long] = STATES[state] || STATES.waiting;
  const pill = get("state");
  pill.textContent = short;
  pill.dataset.state = state;
  get("banner").textContent = long;
  get("banner").hidden = !long;
}

async function begin(message) {
  match.setInfo(message.info);
  told.begin(message.info);
  panels.begin(message.info);
  document.title = `${message.info.map_name} · hitreg`;
  if (app.run === message.run) return;
  Object.assign(app, { run: message.run, fitted: false, mesh: null, baker: null });
  plan.background = null;
  if (app.view) app.view.setMesh(null);
  fit();
  if (message.picture) await loadPicture(message);
  if (message.mesh && app.view) await prepareMesh(message.run);
}

async function loadPicture(message) {
  const image = new Image();
  image.src = `/api/map.png?run=${message.run}`;
  await image.decode().catch(() => {});
  if (!image.naturalWidth || app.run !== message.run || app.baker) return;
  plan.background = { image, low: message.info.picture_low, high: message.info.picture_high };
}

async function prepareMesh(run) {
  const mesh = await loadMesh(run).catch(() => null);
  if (!mesh || app.run !== run) return;
  app.mesh = mesh;
  app.view.setMesh(mesh);
  placeFreeCamera();
  app.baker = new PlanBaker(mesh);
  const floors = match.info.floors;
  const range = get("floor");
  Object.assign(range, { min: Math.floor(mesh.low[2]), max: Math.ceil(mesh.high[2]), step: 0.2 });
  range.value = floors.length ? Math.max(...floors) + HEADROOM_M : range.max;
  get("floor-box").classList.add("usable");
  cut();
}

function cut() {
  if (!app.baker) return;
  const height = Number(get("floor").value);
  get("floor-text").textContent = height >= Number(get("floor").max) ? "all" : `${height.toFixed(1)} m`;
  app.view.roof = height + 1e-3;
  plan.background = app.baker.bake(app.view.roof);
}

function placeFreeCamera() {
  const { low, high } = app.mesh;
  const span = Math.max(high[0] - low[0], high[1] - low[1]);
  const long = high[0] - low[0] >= high[1] - low[1]; // look across the shorter side, so that the map fills the view
  const height = Math.min(high[2], low[2] + span * 0.3) + span * 0.42;
  const middle = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
  const eye = long ? [middle[0], low[1] - span * 0.12, height] : [low[0] - span * 0.12, middle[1], height];
  app.view.camera = { eye, yaw: long ? Math.PI / 2 : 0, pitch: -0.82 };
}

function fit() {
  if (!match.info || plan.size[0] < 2) return;
  plan.fit(match.info.bounds_low, match.info.bounds_high);
  app.fitted = true;
}

// Following

function select(id) {
  app.selected = id;
  app.followed = id !== null;
  if (told.entity !== id) {
    told.choose(id);
    feed.watch(id === null ? "0" : String(id));
  }
  if (id === null) app.asTold = false;
  if (app.view) app.view.ready = false;
  if (id !== null && app.mode === "free") setMode("third");
  panels.board(id === null ? undefined : id);
}

function step(by) {
  const { players } = app.scene;
  if (!players.length) return;
  const order = players.filter((player) => player.flags & FLAG.alive);
  const list = order.length ? order : players;
  const at = list.findIndex((player) => player.id === app.selected);
  select(list[(at + by + list.length) % list.length].id);
}

function leader() {
  const best = app.scene.players.reduce((most, player) => (!most || player.score > most.score ? player : most), null);
  if (best) select(best.id);
}

function toggleAsTold() {
  app.asTold = !app.asTold && told.entity !== null && told.schema !== null;
  toldPanel.draw(app.asTold);
}

function setMode(mode) {
  if (mode !== "map" && !app.view) return;
  app.mode = mode;
  document.querySelectorAll("[data-mode]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  });
  stage.dataset.mode = mode;
  if ((mode === "third" || mode === "first") && app.selected === null) leader();
  if (app.view) app.view.ready = false;
}

// Drawing

function resize() {
  const [, width, height] = sharpen(overlay);
  const changed = plan.size[0] !== width || plan.size[1] !== height;
  plan.size = [width, height];
  if (changed && !app.fitted) fit();
  const ratio = Math.min(2, window.devicePixelRatio || 1) * app.resolution;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (worldCanvas.width !== wide || worldCanvas.height !== high) Object.assign(worldCanvas, { width: wide, height: high });
}

/** Draw fewer pixels on a machine that cannot keep up, more again on none: steady beats sharp. */
function adapt(elapsed) {
  app.slow = app.mode !== "map" && elapsed > SLOW_FRAME_MS && elapsed < 1000 ? app.slow + 1 : Math.max(0, app.slow - 1);
  if (app.slow > 30 && app.resolution > 0.5) {
    app.resolution -= 0.25;
    app.slow = 0;
  }
}

function drawWorld(seconds) {
  const { view, scene } = app;
  const player = scene.byId.get(app.selected);
  if (app.mode === "free") flyByKeys(seconds);
  const cutaway = view.aim(app.mode, player, match.info, seconds);
  view.draw(scene, match, app.mode, app.selected, cutaway, told);
  if (plan.names) view.label(plan.context, scene, match, app.mode, app.selected, plan.size, told);
  else plan.context.clearRect(0, 0, ...plan.size);
}

function flyByKeys(seconds) {
  const speed = (app.keys.has("shift") ? 40 : 14) * seconds;
  const axis = (plus, minus) => (app.keys.has(plus) ? speed : 0) - (app.keys.has(minus) ? speed : 0);
  app.view.fly(axis("w", "s"), axis("d", "a"), axis("e", "q"));
}

function drawMap(seconds) {
  const player = app.scene.byId.get(app.selected);
  if (player && app.followed) {
    const ease = 1 - Math.exp(-seconds * 8);
    plan.centre = plan.centre.map((value, axis) => value + (player.p[axis] - value) * ease);
  }
  plan.draw(app.scene, match, app.selected, toldPanel);
  const metres = plan.gridStep;
  get("scale").firstElementChild.style.width = `${metres * plan.scale}px`;
  get("scale").lastElementChild.textContent = `${metres} m`;
}

function draw(now) {
  requestAnimationFrame(draw);
  const elapsed = Math.min(1000, now - app.lastDraw);
  app.lastDraw = now;
  resize();
  app.scene = match.scene(performance.now());
  told.advance(Math.floor(app.scene.tick));
  if (app.asTold && told.inStep) app.scene = told.scene(app.scene);
  if (match.info) {
    if (app.mode === "map") drawMap(elapsed / 1000);
    else drawWorld(elapsed / 1000);
    adapt(elapsed);
  }
  if (now - app.lastPanels < PANEL_MS) return;
  app.lastPanels = now;
  panels.board(null);
  panels.server();
  toldPanel.draw(app.asTold);
  panels.card(match.latest ? match.latest.byId.get(app.selected) : null);
}

// The user's hands

const drag = { active: false, moved: 0, x: 0, y: 0, pointers: new Map(), spread: 0 };

function turnCamera(dx, dy) {
  const { view } = app;
  const target = app.mode === "third" ? view.orbit : view.camera;
  target.yaw -= dx * 0.005;
  target.pitch = Math.max(-1.45, Math.min(1.45, target.pitch - dy * 0.005));
}

function dragged(dx, dy) {
  if (app.mode === "map") {
    app.followed = false;
    plan.centre = [plan.centre[0] - dx / plan.scale, plan.centre[1] + dy / plan.scale];
  } else if (app.mode !== "first") turnCamera(dx, dy);
}

function zoom(factor, x, y) {
  if (app.mode === "map") plan.zoom(factor, app.followed ? plan.size[0] / 2 : x, app.followed ? plan.size[1] / 2 : y);
  else if (app.mode === "third") app.view.orbit.reach = Math.max(1.5, Math.min(40, app.view.orbit.reach / factor));
  else if (app.mode === "free") app.view.fly(Math.log(factor) * 12, 0, 0);
}

overlay.addEventListener("pointerdown", (event) => {
  overlay.setPointerCapture(event.pointerId);
  drag.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  Object.assign(drag, { active: true, moved: 0, x: event.offsetX, y: event.offsetY, spread: 0 });
});
overlay.addEventListener("pointermove", (event) => {
  if (!drag.pointers.has(event.pointerId)) return;
  drag.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  if (drag.pointers.size === 2) {
    const [a, b] = [...drag.pointers.values()];
    const spread = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (drag.spread) zoom(spread / drag.spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    drag.spread = spread;
    drag.moved = Infinity;
    return;
  }
  const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
  drag.moved += Math.hypot(dx, dy);
  Object.assign(drag, { x: event.offsetX, y: event.offsetY });
  if (drag.moved > 4) dragged(dx, dy);
});
overlay.addEventListener("pointerup", (event) => {
  drag.pointers.delete(event.pointerId);
  if (drag.moved > 4) return;
  const found = app.mode === "map" ? plan.pick(app.scene, event.offsetX, event.offsetY)
    : app.view.pick(app.scene, event.offsetX, event.offsetY, plan.size);
  if (found) select(found.id);
});
overlay.addEventListener("pointercancel", (event) => drag.pointers.delete(event.pointerId));
overlay.addEventListener("dblclick", () => { if (app.mode === "map" && app.selected !== null) setMode("third"); });
overlay.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
}, { passive: false });

const middle = () => [plan.size[0] / 2, plan.size[1] / 2];
const ACTIONS = {
  1: () => setMode("map"), 2: () => setMode("third"), 3: () => setMode("first"), 4: () => setMode("free"),
  n: () => step(1), b: () => step(-1), l: leader, escape: () => select(null),
  "+": () => zoom(1.25, ...middle()), "=": () => zoom(1.25, ...middle()), "-": () => zoom(0.8, ...middle()),
  0: () => { app.followed = false; fit(); },
  t: () => { plan.names = !plan.names; },
  k: toggleAsTold,
  p: () => document.body.classList.toggle("bare"),
  "?": () => get("help").showModal(),
  arrowleft: () => dragged(40, 0), arrowright: () => dragged(-40, 0),
  arrowup: () => dragged(0, 40), arrowdown: () => dragged(0, -40),
};

window.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey || get("help").open) return;
  const key = event.key.toLowerCase();
  app.keys.add(key);
  const action = ACTIONS[key];
  if (!action || (key.startsWith("arrow") && event.target !== overlay && event.target !== document.body)) return;
  event.preventDefault();
  action();
});
window.addEventListener("keyup", (event) => app.keys.delete(event.key.toLowerCase()));
window.addEventListener("blur", () => app.keys.clear());
document.querySelectorAll("[data-mode]").forEach((button) => {
  button.addEventListener("click", () => setMode(button.dataset.mode));
});
get("help-open").addEventListener("click", () => get("help").showModal());
get("card-previous").addEventListener("click", () => step(-1));
get("card-next").addEventListener("click", () => step(1));
get("card-close").addEventListener("click", () => select(null));
get("told-mode").addEventListener("click", toggleAsTold);
get("floor").addEventListener("input", () => {
  clearTimeout(app.cutTimer);
  app.cutTimer = setTimeout(cut, 60);
});

const feed = new Feed({
  state: setState,
  info: (message) => { begin(message); },
  names: (names) => { match.names = names; },
  frame: (frame) => { match.add(frame, performance.now()); told.compare(frame); },
  told: (data) => {
    const message = decodeTold(data);
    if (message) told.add(message);
  },
  watching: ({ entity, granted }) => { if (told.entity === BigInt(entity)) told.granted = granted; },
});
setMode("map");
requestAnimationFrame(draw);
