// The page of recorded matches: a list, and one of them played by a worker that the edge starts.

import { Board, element } from "./board.js";
import { Library } from "./replaylist.js";
import { ReplayMatch } from "./replaymatch.js";
import { ReplayLink } from "./replaylink.js";
import { Shots } from "./replayshots.js";
import { Stage } from "./stage.js";
import { clock, countBelow, NETWORK_LINES, Timeline } from "./timeline.js";

const get = (id) => document.getElementById(id);
const SPEEDS = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8];
const SPEED_NAMES = ["⅛", "¼", "½", "1", "2", "4", "8"];
const AHEAD_S = 1.6; // of playing time that is to be here before it is shown
const CHUNK_FRAMES = 24;
const STEP_BACK_TICKS = 60; // asked for at once when stepping back, since all of them are made on the way
const ASKED_MAX = 2;
const PANEL_MS = 200;
const KILLS_SHOWN = 6;
const KILL_S = 6;
const URL_MS = 600;
const STATES = { choosing: "choose", opening: "opening", playing: "playing", paused: "paused", loading: "loading", failed: "failed" };

const match = new ReplayMatch();
const app = {
  file: null, link: null, opened: null, position: 0, playing: false, speed: 1, until: null, scrub: null, problem: "", warning: "",
  lastDraw: 0, lastPanels: 0, urlAt: 0, scene: match.scene(), shownAt: 0, openedAt: 0, firstDrawn: 0, drawn: 0, index: null,
  networks: new Map(), killKey: "", follow: null, shown: "", said: "",
};
const shots = new Shots(match, {
  now: () => app.position, go: (tick) => go(tick), nameOf: (id) => match.nameById.get(BigInt(id)) || id,
  explain: (number) => app.link && app.link.ask({ op: "shot", number }),
});
const stage = new Stage(match, { marks: shots, relation: () => "", onSelect: chosen });
const board = new Board(match, (id) => stage.select(id));
const timeline = new Timeline(get("timeline"), get("tip"), { scrub, seek: (tick) => { app.scrub = null; go(tick); }, describe });
const library = new Library((name) => open(name, {}));

// The page's state, for tests and the curious.
window.hitreg = {
  get state() { return app.shown; },
  get file() { return app.file; },
  get position() { return app.position; },
  get tick() { return app.scene.tick; },
  get first() { return app.opened && app.opened.first; },
  get last() { return app.opened && app.opened.last; },
  get playing() { return app.playing; },
  get speed() { return app.speed; },
  get scene() { return app.scene; },
  get players() { return app.scene.players.length; },
  get frames() { return match.frameCount; },
  get selected() { return stage.selected === null ? null : String(stage.selected); },
  get mode() { return stage.mode; },
  get camera() { return stage.view ? { ...stage.view.camera } : null; },
  get mesh() { return stage.mesh !== null; },
  get index() { return app.index; },
  get shots() { return shots; },
  get timeline() { return timeline; },
  get problem() { return app.problem || app.warning; },
  get held() { return match.heldUntil(app.position, stride()); },
  get openMs() { return app.firstDrawn ? app.firstDrawn - app.openedAt : null; },
  get firstMs() { return app.firstDrawn; }, // since the page was asked for
  get meshMs() { return app.meshAt ? app.meshAt - app.openedAt : null; },
  get drawn() { return app.drawn; },
  open: (name) => open(name, {}),
  go: (tick) => go(tick),
};

/** How things stand; what the page says is set by `showState`. */
function state() {
  if (app.problem) return "failed";
  if (!app.file) return "choosing";
  if (!app.opened) return "opening";
  if (app.shownAt !== app.position && performance.now() - app.wantedAt > 150) return "loading";
  return app.playing ? "playing" : "paused";
}

/** Say how things stand, and why, in one go: nobody is to see that it failed without the reason. */
function showState() {
  const now = state();
  const text = app.problem || app.warning;
  const key = `${now} ${app.playing} ${text}`;
  if (key === app.said) return;
  Object.assign(app, { shown: now, said: key });
  const pill = get("state");
  pill.textContent = STATES[now];
  pill.dataset.state = { playing: "live", failed: "gone" }[now] || "waiting";
  const banner = get("banner");
  banner.hidden = !text;
  banner.textContent = text;
  banner.dataset.level = app.problem ? "bad" : "warn";
  busy({ opening: "Opening…", loading: "Playing up to there…" }[now] || "");
  get("play").textContent = app.playing ? "❚❚" : "▶";
  get("play").setAttribute("aria-pressed", String(app.playing));
  get("play").setAttribute("aria-label", app.playing ? "Pause" : "Play");
}

function warn(text) {
  app.warning = text;
  showState();
}

// Opening

function open(name, { tick = null, follow = null, mode = null }) {
  if (app.link) app.link.close();
  Object.assign(app, { file: name, opened: null, position: tick || 0, playing: false, until: null, scrub: null, problem: "", warning: "",
    openedAt: performance.now(), firstDrawn: 0, meshAt: 0, drawn: 0, index: null, scene: match.scene(), follow, killKey: "", wantedAt: performance.now() });
  app.networks.clear();
  match.reset();
  shots.clear();
  timeline.clear();
  stage.select(null);
  document.body.classList.remove("choosing");
  if (mode) stage.setMode(mode);
  app.link = new ReplayLink(name, tick, {
    preparing: ({ done, total }) => busy(`Preparing the simulation: ${done} of ${total}…`),
    ready: () => {},
    failed: ({ text }) => fail(text),
    refused: ({ text }) => warn(text),
    opened, damaged, names, differs, index, network, chunk, mesh, shotList,
    shot: (message) => shots.explain(message),
    closed: () => { if (!app.problem) fail("The connection has ended. Reload the page to go on."); },
  });
  showState();
  address();
}

function list() {
  if (app.link) app.link.close();
  Object.assign(app, { link: null, file: null, opened: null, problem: "", warning: "", playing: false });
  document.body.classList.add("choosing");
  document.title = "hitreg · replays";
  get("map-name").textContent = "Replays";
  get("game-name").textContent = "";
  showState();
  library.load();
}

function opened(message) {
  app.opened = message;
  match.setInfo(message.info);
  board.begin(message.info);
  stage.begin();
  timeline.begin({ ...message, rate: match.rate });
  document.title = `${message.info.map_name} · replay · hitreg`;
  get("game-name").textContent = `${message.info.game} · ${new Date(message.started_unix_s * 1000).toLocaleString("en-GB")}`;
  get("length").textContent = clock(message.last / match.rate, 1);
  app.position = Math.max(message.first, Math.min(message.last, app.position));
  if (message.problems.length) warn(problems(message.problems));
}

function damaged(message) {
  Object.assign(app.opened, message, { type: "opened" });
  Object.assign(timeline, { first: message.first, last: message.last, spans: message.spans, dirty: true });
  warn(problems(message.problems));
  app.position = playable(app.position);
  replan();
}

function problems(lines) {
  return lines.length > 1 ? `${lines[0]} (and ${lines.length - 1} more)` : lines[0];
}

function fail(text) {
  app.problem = text;
  app.playing = false;
  showState();
}

function names({ names: fresh }) {
  for (const [id, name] of Object.entries(fresh)) match.nameById.set(BigInt(id), name);
}

function differs({ tick }) {
  warn(`From tick ${tick} on, the match played again is not the one recorded: hitreg replay verify says where it differs.`);
}

function mesh(found) {
  if (found && stage.view) stage.setMesh(found);
}

function index(message) {
  app.index = message;
  for (const [id, name] of message.players) if (name) match.nameById.set(BigInt(id), name);
  timeline.setIndex(message);
  timeline.stages = message.stages || null;
  timeline.dirty = true;
  shots.setIndex(message);
  if (message.problems.length) warn(app.warning || problems(message.problems));
}

function shotList(found) {
  if (!found) return;
  timeline.setShots(found);
  shots.setShots(found);
}

function network(message) {
  app.networks.set(message.entity, message);
  if (timeline.followed !== null && String(timeline.followed) === message.entity) {
    timeline.network = message;
    timeline.dirty = true;
  }
}

function chunk(frames, frameStride) {
  for (const frame of frames) match.keep(frame, frameStride, app.position);
  if (app.scrub !== null) askScrubbed();
}

// Time

function stride() {
  return app.playing ? Math.max(1, app.speed) : 1;
}

/** The nearest tick that can be played. */
function playable(tick) {
  const { first, last, spans } = app.opened;
  const wanted = Math.max(first, Math.min(last, Math.round(tick)));
  for (const [low, high] of spans) {
    if (wanted < low) return low;
    if (wanted <= high) return wanted;
  }
  return last;
}

function go(tick) {
  if (!app.opened) return;
  const back = tick < app.position && app.position - tick < STEP_BACK_TICKS;
  app.playing = app.playing && app.scrub === null;
  app.position = playable(tick);
  app.wantedAt = performance.now();
  if (app.shownAt === app.position) app.shownAt = NaN;
  app.until = null;
  if (match.around(app.position)) return;
  app.link.elsewhere();
  if (back && !app.playing) {
    const [low] = app.opened.spans.filter(([from]) => from <= app.position).pop();
    app.link.frames(Math.max(low, app.position - STEP_BACK_TICKS + 1), app.position, 1);
  } else app.link.frames(app.position, app.position, 1);
  app.until = app.position;
}

/** While the playhead is dragged only the newest place is asked for, when the one before has been answered. */
function scrub(tick) {
  if (!app.opened) return;
  app.playing = false;
  app.position = playable(tick);
  app.wantedAt = performance.now();
  const first = app.scrub === null;
  app.scrub = app.position;
  if (first || app.link.waiting.size === 0) askScrubbed();
}

function askScrubbed() {
  if (app.link.waiting.size || match.around(app.scrub)) return;
  app.link.frames(app.scrub, app.scrub, 1);
}

/** Ask for what will be needed next. */
function fill() {
  if (!app.opened || !app.link.open || app.scrub !== null) return;
  const step = stride();
  const span = app.opened.spans.find(([low, high]) => app.position >= low && app.position <= high);
  if (!span) return;
  const held = match.heldUntil(app.position, step);
  const here = Math.floor(app.position);
  let end = Math.max(held, app.until === null ? -Infinity : app.until);
  if (end < here) end = here - step;
  const target = app.playing ? Math.min(span[1], app.position + AHEAD_S * match.rate * app.speed) : here;
  while (end < target && app.link.waiting.size < ASKED_MAX) {
    const first = Math.min(span[1], end + step);
    const last = app.playing ? Math.min(span[1], first + step * (CHUNK_FRAMES - 1)) : first;
    app.link.frames(first, last, step);
    end = first + Math.floor((last - first) / step) * step;
    if (end + step > span[1] && end < span[1] && app.playing) {
      app.link.frames(span[1], span[1], 1);
      end = span[1];
    }
    app.until = end;
  }
}

function advance(elapsed) {
  if (!app.opened || !app.playing) return;
  const span = app.opened.spans.find(([low, high]) => app.position >= low && app.position <= high);
  const held = match.heldUntil(app.position, stride());
  const wanted = app.position + (elapsed / 1000) * match.rate * app.speed;
  app.position = Math.max(app.position, Math.min(wanted, held));
  if (span && app.position >= span[1]) {
    const after = app.opened.spans.find(([low]) => low > span[1]);
    if (after) {
      app.position = after[0];
      app.until = null;
    } else app.playing = false;
  }
}

function play(on = !app.playing) {
  if (!app.opened) return;
  if (on && app.position >= app.opened.last) app.position = app.opened.first;
  app.playing = on;
  if (!on) app.position = playable(Math.floor(app.position));
  replan();
}

function replan() {
  if (app.link) app.link.elsewhere();
  app.until = null;
  app.wantedAt = performance.now();
}

function setSpeed(speed) {
  app.speed = speed;
  replan();
  document.querySelectorAll("#speeds button").forEach((button, number) => {
    button.setAttribute("aria-pressed", String(SPEEDS[number] === speed));
  });
}

function changeSpeed(by) {
  setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(app.speed) + by))]);
}

function step(ticks) {
  app.playing = false;
  go(Math.round(app.position) + ticks);
}

/** Go to the kill before or after now: of the player followed, if there is one. */
function kill(by) {
  const rows = (timeline.marks.kill || []).filter(([, actor, target]) => timeline.row < 0 || actor === timeline.row || target === timeline.row);
  const ticks = rows.map(([tick]) => tick);
  const now = Math.round(app.position);
  const at = by > 0 ? countBelow(ticks, now + 1) : countBelow(ticks, now) - 1;
  if (at < 0 || at >= ticks.length) return;
  app.playing = false;
  go(ticks[at]);
}

// Following

function chosen(id) {
  timeline.follow(id);
  shots.follow(id);
  board.board(id === null ? undefined : id);
  if (id === null) return;
  const known = app.networks.get(String(id));
  timeline.network = known || null;
  if (!known && app.link) app.link.ask({ op: "network", entity: String(id) });
}

/** Follow whom the address names, once they are there. */
function followWanted() {
  if (app.follow === null || !app.scene.players.length) return;
  const found = app.scene.players.find((player) => String(player.id) === app.follow);
  app.follow = null;
  if (found) stage.select(found.id);
}

// Drawing

function busy(text) {
  get("busy").hidden = !text;
  if (text) get("busy").lastElementChild.textContent = text;
}

function describe(mark, tick, lane) {
  const time = `${clock(tick / match.rate)} · tick ${tick}`;
  const stages = lane === "tick" ? timeline.stagesAt(tick) : "";
  if (!mark) return stages ? `${time} · ${stages}` : time;
  const name = (row) => {
    const player = timeline.players[row];
    return player ? match.nameById.get(player.id) || player.name || String(player.id) : "the world";
  };
  const weapon = mark.kind === "kill" && match.info ? match.info.weapons[Math.floor(mark.value / 8)] || "" : "";
  const texts = {
    kill: () => (mark.actor === mark.target ? `${name(mark.target)} died` : `${name(mark.actor)} killed ${name(mark.target)}${weapon ? ` (${weapon})` : ""}`),
    refusal: () => `${name(mark.actor)}: ${mark.value}`,
    flag: () => `${name(mark.actor)}: ${mark.value}`,
    join: () => `${mark.value || name(mark.actor)} joined`,
    leave: () => `${name(mark.actor)} left${mark.value ? `: ${mark.value}` : ""}`,
  };
  return `${clock(mark.tick / match.rate)} · ${texts[mark.kind]()}`;
}

/** Kills of the last seconds, from the index where there is one, else from the frames. */
function drawKills() {
  const rows = (timeline.marks.kill || []).filter(([tick]) => tick <= app.position && tick > app.position - KILL_S * match.rate);
  const key = `${rows.map((row) => row.join()).join(" ")} ${match.nameById.size} ${app.scene.players.length}`;
  if (key === app.killKey) return;
  app.killKey = key;
  get("killfeed").replaceChildren(...rows.slice(-KILLS_SHOWN).reverse().map(([, actor, target, value]) => {
    const item = element("li");
    const who = (row) => {
      const player = timeline.players[row];
      const standing = player && app.scene.byId.get(player.id);
      const made = element("b", "", player ? match.nameById.get(player.id) || "?" : "the world");
      if (standing) made.style.color = match.colourOf(standing.team, standing);
      return made;
    };
    const weapon = match.info.weapons[Math.floor(value / 8)] || "";
    if (actor === target) item.append(who(target), element("span", "", weapon || "died"));
    else item.append(who(actor), element("span", "", value % 8 === 1 ? `${weapon} ◎` : weapon), who(target));
    return item;
  }));
}

function drawPanels() {
  if (!app.opened) return;
  board.board(null);
  board.card(match.latest ? match.latest.byId.get(stage.selected) : null);
  shots.draw(Math.floor(app.position));
  get("fact-players").textContent = app.scene.players.length;
  drawKills();
  drawNetworkKey();
}

function drawNetworkKey() {
  const { network: figures } = timeline;
  const at = figures ? countBelow(figures.ticks, app.position + 1) - 1 : -1;
  const parts = at < 0 ? [] : NETWORK_LINES.map(([key, name, colour, unit]) => {
    const part = element("span", "", "");
    const sign = element("i");
    sign.style.background = colour;
    part.append(sign, `${name} ${Math.round(figures[key][at] * 10) / 10} ${unit}`);
    return part;
  });
  get("network-key").replaceChildren(...parts);
}

function drawTime() {
  const tick = Math.floor(app.position);
  const seconds = clock(app.position / match.rate);
  if (get("time").textContent !== seconds) get("time").textContent = seconds;
  get("fact-tick").textContent = tick.toLocaleString("en");
  if (document.activeElement !== get("goto")) get("goto").value = String(tick);
  const slider = get("timeline");
  slider.setAttribute("aria-valuenow", String(tick));
  slider.setAttribute("aria-valuetext", seconds);
}

function draw(now) {
  requestAnimationFrame(draw);
  const elapsed = Math.min(250, now - app.lastDraw);
  app.lastDraw = now;
  if (app.file) drawMatch(now, elapsed);
  showState();
  if (now - app.lastPanels < PANEL_MS) return;
  app.lastPanels = now;
  drawPanels();
  if (app.opened && now - app.urlAt > URL_MS) address();
}

function drawMatch(now, elapsed) {
  advance(elapsed);
  fill();
  stage.resize();
  const scene = app.opened ? match.sceneAt(app.position) : null;
  if (scene) {
    app.shownAt = app.position;
    app.scene = shots.add(scene);
    followWanted();
    app.drawn += 1;
  }
  stage.draw(app.scene, elapsed);
  if (scene && !app.firstDrawn) app.firstDrawn = performance.now();
  if (scene && stage.mesh && !app.meshAt) app.meshAt = performance.now();
  if (!app.opened) return;
  timeline.draw(app.position, match.heldUntil(app.position, stride()));
  drawTime();
}

// The address names file, tick and player, so that a moment can be sent to somebody.

function address() {
  app.urlAt = app.lastDraw;
  const query = new URLSearchParams();
  if (app.file) {
    query.set("file", app.file);
    if (app.opened) query.set("tick", String(Math.floor(app.position)));
    if (stage.selected !== null) query.set("follow", String(stage.selected));
    if (stage.mode !== "map") query.set("view", stage.mode);
  }
  const wanted = `/replays${query.size ? `?${query}` : ""}`;
  if (wanted !== location.pathname + location.search) history.replaceState(null, "", wanted);
}

function fromAddress() {
  const query = new URLSearchParams(location.search);
  const file = query.get("file");
  const whole = (text) => (/^[0-9]{1,15}$/.test(text || "") ? Number(text) : null);
  if (!file) list();
  else {
    const view = query.get("view");
    open(file, { tick: whole(query.get("tick")), follow: query.get("follow"), mode: ["third", "first", "free"].includes(view) ? view : null });
  }
}

// The user's hands

SPEEDS.forEach((speed, number) => {
  const button = element("button", "", `${SPEED_NAMES[number]}×`);
  button.type = "button";
  button.dataset.testid = `speed-${number}`;
  button.addEventListener("click", () => setSpeed(speed));
  get("speeds").append(button);
});
setSpeed(1);
const clicks = {
  play: () => play(), "back-tick": () => step(-1), "on-tick": () => step(1), "back-second": () => step(-match.rate),
  "on-second": () => step(match.rate), "kill-previous": () => kill(-1), "kill-next": () => kill(1),
  "zoom-in": () => timeline.zoom(0.5, app.position), "zoom-out": () => timeline.zoom(2, app.position),
  "zoom-whole": () => timeline.whole(), "to-list": () => { list(); address(); },
};
for (const [id, action] of Object.entries(clicks)) get(id).addEventListener("click", action);
// A button that was clicked gives the keys back to the page: the space bar plays.
document.querySelector(".deck").addEventListener("click", (event) => {
  if (event.detail && document.activeElement instanceof HTMLButtonElement) document.activeElement.blur();
});
get("goto").addEventListener("keydown", (event) => {
  if (event.key === "Escape") get("goto").blur();
  if (event.key !== "Enter") return;
  const text = get("goto").value.replace(/[\s,]/g, "");
  const valid = /^[0-9]{1,15}$/.test(text);
  get("goto").setAttribute("aria-invalid", String(!valid));
  if (!valid) return;
  step(Number(text) - Math.round(app.position));
  get("goto").blur();
});
const second = (event) => (event.shiftKey ? 10 : 1) * match.rate;
stage.hearKeys({
  ...stage.actions(), " ": () => play(), ",": () => step(-1), ".": () => step(1), "[": () => changeSpeed(-1), "]": () => changeSpeed(1),
  arrowleft: (event) => step(-second(event)), arrowright: (event) => step(second(event)), home: () => go(app.opened ? app.opened.first : 0),
  end: () => go(app.opened ? app.opened.last : 0), j: () => kill(-1), k: () => kill(1), z: () => shots.step(-1), x: () => shots.step(1),
  g: () => { get("goto").focus(); get("goto").select(); },
});
window.addEventListener("popstate", fromAddress);
fromAddress();
requestAnimationFrame(draw);
