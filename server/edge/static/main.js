// Wires the feed, the match, the picture and the panels of a live match together.

import { Feed } from "./feed.js";
import { Match } from "./match.js";
import { loadMesh } from "./mesh.js";
import { Panels } from "./panels.js";
import { Stage } from "./stage.js";
import { decodeTold, Told } from "./told.js";
import { ToldPanel } from "./toldpanel.js";

const get = (id) => document.getElementById(id);
const PANEL_MS = 250;
const STATES = {
  waiting: ["waiting", "Waiting for a server to publish a match…"],
  live: ["live", ""],
  gone: ["server gone", "The server is gone. Waiting for it to come back…"],
  offline: ["reconnecting", "No connection to the edge. Trying again…"],
};

const match = new Match();
const app = { run: "", lastDraw: 0, lastPanels: 0, asTold: false };
const told = new Told();
const toldPanel = new ToldPanel(told, match);
const stage = new Stage(match, { marks: toldPanel, relation: (id) => told.relation(id), onSelect: chosen });
const panels = new Panels(match, (id) => stage.select(id));

// The page's state, for tests and the curious.
window.hitreg = {
  get frames() { return match.frameCount; },
  get players() { return stage.scene.players.length; },
  get scene() { return stage.scene; },
  get selected() { return stage.selected === null ? null : String(stage.selected); },
  get mode() { return stage.mode; },
  get state() { return match.state; },
  get connections() { return feed.connections; },
  get centre() { return stage.plan.centre.slice(); },
  get scale() { return stage.plan.scale; },
  get camera() { return stage.view ? { ...stage.view.camera } : null; },
  get webgl() { return stage.view !== null; },
  get mesh() { return stage.mesh !== null; },
  get run() { return app.run; },
  get told() { return told; },
  get asTold() { return app.asTold; },
  screen: (id) => {
    const player = stage.scene.byId.get(BigInt(id));
    return player ? stage.plan.toScreen(player.p) : null;
  },
};

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
  app.run = message.run;
  stage.begin();
  if (message.picture) await loadPicture(message);
  if (message.mesh && stage.view) await prepareMesh(message.run);
}

async function loadPicture(message) {
  const image = new Image();
  image.src = `/api/map.png?run=${message.run}`;
  await image.decode().catch(() => {});
  if (!image.naturalWidth || app.run !== message.run) return;
  stage.setPicture(image, message.info.picture_low, message.info.picture_high);
}

async function prepareMesh(run) {
  const mesh = await loadMesh(run).catch(() => null);
  if (mesh && app.run === run) stage.setMesh(mesh);
}

/** Somebody, or nobody, is followed from now on. */
function chosen(id) {
  if (told.entity !== id) {
    told.choose(id);
    feed.watch(id === null ? "0" : String(id));
  }
  if (id === null) app.asTold = false;
  panels.board(id === null ? undefined : id);
}

function toggleAsTold() {
  app.asTold = !app.asTold && told.entity !== null && told.schema !== null;
  toldPanel.draw(app.asTold);
}

function draw(now) {
  requestAnimationFrame(draw);
  const elapsed = Math.min(1000, now - app.lastDraw);
  app.lastDraw = now;
  stage.resize();
  let scene = match.scene(performance.now());
  told.advance(Math.floor(scene.tick));
  if (app.asTold && told.inStep) scene = told.scene(scene);
  stage.draw(scene, elapsed);
  if (now - app.lastPanels < PANEL_MS) return;
  app.lastPanels = now;
  panels.board(null);
  panels.server();
  toldPanel.draw(app.asTold);
  panels.card(match.latest ? match.latest.byId.get(stage.selected) : null);
}

get("told-mode").addEventListener("click", toggleAsTold);
stage.hearKeys({
  ...stage.actions(), k: toggleAsTold,
  arrowleft: () => stage.dragged(40, 0), arrowright: () => stage.dragged(-40, 0),
  arrowup: () => stage.dragged(0, 40), arrowdown: () => stage.dragged(0, -40),
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
requestAnimationFrame(draw);
