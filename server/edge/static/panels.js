// Everything around the picture: scoreboard, kill feed, the card of the player followed, tick, stages, network.

import { FLAG } from "./feed.js";

const ROWS_MAX = 120;
const KILL_MS = 7000;
const STAGE_COLOURS = ["#6ee7c8", "#7cc4ff", "#b794f6", "#f6ad55", "#fc8181", "#f6e05e", "#68d391", "#63b3ed",
  "#ed64a6", "#a0aec0", "#4fd1c5", "#d6bcfa", "#fbd38d", "#9ae6b4", "#feb2b2", "#90cdf4"];

const FATES = [["sent", "sent", "#6ee7c8"], ["atRest", "at rest", "#4b5a6c"], ["steady", "as foreseen", "#7cc4ff"],
  ["inFlight", "under way", "#b794f6"], ["deferred", "deferred", "#ff6b6b"]];

const get = (id) => document.getElementById(id);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** 0.123 µs … 12.3 ms, three digits. */
export function duration(ns) {
  if (ns >= 1e9) return `${(ns / 1e9).toPrecision(3)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toPrecision(3)} ms`;
  return `${ns >= 1e5 ? Math.round(ns / 1e3) : (ns / 1e3).toPrecision(3)} µs`;
}

export function amount(value, unit = "") {
  if (value >= 1e6) return `${(value / 1e6).toFixed(value >= 1e7 ? 0 : 1)} M${unit}`;
  if (value >= 1e4) return `${Math.round(value / 1e3)} k${unit}`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)} k${unit}`;
  return `${Math.round(value)} ${unit}`.trim();
}

/** A canvas as sharp as the screen; returns its context and its size in CSS pixels. */
export function sharpen(canvas) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [context, width, height];
}

export class Panels {
  constructor(match, choose) {
    this.match = match;
    this.choose = choose;
    this.sort = { key: "score", sign: -1 };
    this.rows = new Map();
    this.stageRows = [];
    this.rates = [];
    document.querySelectorAll("[data-sort]").forEach((button) => {
      button.addEventListener("click", () => this.sortBy(button));
    });
    get("filter").addEventListener("input", () => this.board(null));
    match.onKill = (kill) => this.kill(kill);
  }

  sortBy(button) {
    const key = button.dataset.sort;
    const natural = key === "name" || key === "ping" ? 1 : -1;
    this.sort = { key, sign: this.sort.key === key ? -this.sort.sign : natural };
    document.querySelectorAll("[aria-sort]").forEach((cell) => cell.removeAttribute("aria-sort"));
    button.parentElement.setAttribute("aria-sort", this.sort.sign > 0 ? "ascending" : "descending");
    this.board(null);
  }

  /** The parts that change only when a run of the server begins. */
  begin(info) {
    get("map-name").textContent = info.map_name;
    get("game-name").textContent = info.game;
    get("fact-rate").textContent = `${info.tick_rate} Hz`;
    get("killfeed").replaceChildren();
    this.stageRows = info.stages.map((name, number) => {
      const row = element("li");
      const bar = element("span", "bars");
      const [p99, p50] = [element("i", "p99"), element("i", "p50")];
      [p99, p50].forEach((part) => { part.style.background = STAGE_COLOURS[number % STAGE_COLOURS.length]; });
      bar.append(p99, p50);
      const text = element("span", "figure");
      row.append(element("span", "label", name), bar, text);
      row.dataset.testid = "stage";
      return { row, p50, p99, text };
    });
    get("stages").replaceChildren(...this.stageRows.map((entry) => entry.row));
  }

  kill({ actor, target, weapon, head }) {
    const { match } = this;
    const item = element("li");
    const name = (player) => {
      const made = element("b", "", player ? match.nameOf(player) : "the world");
      if (player) made.style.color = match.colourOf(player.team, player);
      return made;
    };
    if (actor && target && actor.id === target.id) item.append(name(target), element("span", "", weapon || "died"));
    else item.append(name(actor), element("span", "", head ? `${weapon} ◎` : weapon), name(target));
    const feed = get("killfeed");
    feed.prepend(item);
    while (feed.children.length > 6) feed.lastChild.remove();
    setTimeout(() => item.classList.add("old"), KILL_MS - 600);
    setTimeout(() => item.remove(), KILL_MS);
  }

  /** Refresh the scoreboard; `selected` null keeps the row that is marked. */
  board(selected) {
    const { match, sort } = this;
    if (selected !== null) this.selected = selected;
    if (!match.latest) return;
    const wanted = get("filter").value.trim().toLowerCase();
    const keyed = match.latest.players.map((player) => ({ player, name: match.nameOf(player) }));
    const value = ({ player, name }) => (sort.key === "name" ? name.toLowerCase() : player[sort.key]);
    const found = wanted ? keyed.filter(({ name }) => name.toLowerCase().includes(wanted)) : keyed;
    found.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x !== y) return (x < y ? -1 : 1) * sort.sign;
      return b.player.score - a.player.score || (a.player.id < b.player.id ? -1 : 1);
    });
    this.fill(found.slice(0, ROWS_MAX));
    get("board-more").textContent = found.length > ROWS_MAX ? `and ${found.length - ROWS_MAX} more` : "";
    this.teams();
  }

  /** One row per player, moved and never reused for another, so that a click in a moving table hits who it meant. */
  fill(entries) {
    const body = get("board");
    const focused = document.activeElement;
    const gone = new Set(this.rows.keys());
    entries.forEach((entry, number) => {
      const { id } = entry.player;
      gone.delete(id);
      if (!this.rows.has(id)) this.rows.set(id, this.makeRow(id));
      const row = this.rows.get(id);
      this.fillRow(row, entry, number + 1);
      if (body.children[number] !== row.line) body.insertBefore(row.line, body.children[number] || null);
    });
    for (const id of gone) {
      this.rows.get(id).line.remove();
      this.rows.delete(id);
    }
    if (focused !== document.activeElement && body.contains(focused)) focused.focus();
  }

  fillRow(row, { player, name }, rank) {
    row.line.classList.toggle("dead", !(player.flags & FLAG.alive));
    row.line.classList.toggle("chosen", player.id === this.selected);
    row.dot.style.background = this.match.colourOf(player.team, player);
    const texts = [rank, name, player.score, player.kills, player.deaths, player.ping];
    texts.forEach((text, cell) => {
      if (row.cells[cell].textContent !== String(text)) row.cells[cell].textContent = text;
    });
  }

  makeRow(id) {
    const line = element("tr");
    line.dataset.testid = "player-row";
    const row = { line, dot: element("span", "dot"), cells: [] };
    for (let cell = 0; cell < 6; cell += 1) {
      const made = element("td");
      if (cell === 1) {
        const button = element("button", "name");
        button.type = "button";
        made.append(row.dot, button);
        row.cells.push(button);
      } else row.cells.push(made);
      line.append(made);
    }
    line.addEventListener("click", () => this.choose(id));
    return row;
  }

  teams() {
    const { match } = this;
    const totals = new Map();
    for (const player of match.latest.players) {
      const total = totals.get(player.team) || { score: 0, alive: 0, count: 0 };
      total.score += player.score;
      total.count += 1;
      total.alive += player.flags & FLAG.alive ? 1 : 0;
      totals.set(player.team, total);
    }
    const chips = [...totals].sort((a, b) => b[1].score - a[1].score).slice(0, 8).map(([team, total]) => {
      const chip = element("div", "team");
      chip.dataset.testid = "team";
      chip.style.setProperty("--team", match.colourOf(team));
      const entry = match.info.teams[team % Math.max(1, match.info.teams.length)];
      chip.append(element("span", "", entry ? entry.name : `team ${team}`), element("strong", "", total.score),
        element("small", "", `${total.alive} of ${total.count} alive`));
      return chip;
    });
    get("teams").replaceChildren(...chips);
  }

  card(player) {
    get("card").hidden = !player;
    if (!player) return;
    const { match } = this;
    const { teams, weapons } = match.info;
    get("card-dot").style.background = match.colourOf(player.team, player);
    get("card-name").textContent = match.nameOf(player);
    const team = teams.length ? teams[player.team % teams.length].name : "";
    get("card-team").textContent = player.flags & FLAG.alive ? team : `${team} · down`;
    for (const [id, value] of [["card-health", player.health], ["card-armour", player.armour]]) {
      const meter = get(id);
      meter.setAttribute("aria-valuenow", value);
      meter.firstElementChild.style.width = `${Math.max(0, Math.min(100, value))}%`;
      meter.children[1].textContent = Math.max(0, value);
    }
    get("card-weapon").textContent = weapons[player.weapon] || "–";
    get("card-kd").textContent = `${player.kills} / ${player.deaths}`;
    get("card-speed").textContent = `${Math.hypot(player.v[0], player.v[1]).toFixed(1)} m/s`;
    get("card-ping").textContent = `${player.ping} ms`;
    get("card-rate").textContent = amount(player.bytesOut, "B/s");
  }

  /** Refresh what the server says about itself. */
  server() {
    const { latest, history, info } = this.match;
    if (!latest || !info) return;
    const { metrics } = latest;
    get("fact-players").textContent = latest.players.length;
    get("fact-tick").textContent = latest.tick.toLocaleString("en");
    for (const name of ["p50", "p95", "p99", "budget"]) get(`tick-${name}`).textContent = duration(metrics[name]);
    get("tick-overruns").textContent = metrics.overruns;
    const load = metrics.budget ? metrics.p99 / metrics.budget : 0;
    const pill = get("tick-load");
    pill.textContent = `${(load * 100).toFixed(load < 0.1 ? 1 : 0)} % of budget`;
    pill.dataset.level = load < 0.6 ? "good" : load < 1 ? "warn" : "bad";
    const most = Math.max(1, ...latest.stages.map((stage) => stage.p99));
    this.stageRows.forEach((entry, number) => {
      const stage = latest.stages[number];
      if (!stage) return;
      entry.p50.style.width = `${(stage.p50 / most) * 100}%`;
      entry.p99.style.width = `${(stage.p99 / most) * 100}%`;
      entry.text.textContent = `${duration(stage.p50)} · ${duration(stage.p99)}`;
    });
    this.network(latest, history);
    this.telling(latest.telling);
    this.timeline(history, metrics);
  }

  network(latest, history) {
    const { metrics } = latest;
    const before = history[Math.max(0, history.length - 21)];
    const seconds = Math.max(0.05, (latest.wall - before.wall) / 1000);
    const per = (name) => Math.max(0, (metrics[name] - before.metrics[name]) / seconds);
    const out = per("bytesOut");
    this.rates.push([out, per("bytesIn")]);
    if (this.rates.length > 120) this.rates.shift();
    const figures = [["sent", amount(out, "B/s")], ["received", amount(per("bytesIn"), "B/s")],
      ["pkts out", amount(per("packetsOut"), "/s")], ["pkts in", amount(per("packetsIn"), "/s")],
      ["connected", metrics.connected], ["per client", amount(out / Math.max(1, metrics.connected), "B/s")],
      ["dropped", amount(metrics.drops)], ["truncated", amount(metrics.truncated)]];
    get("network").replaceChildren(...figures.map(([name, text]) => {
      const pair = element("div");
      pair.append(element("dt", "", name), element("dd", "", text));
      return pair;
    }));
    const [context, width, height] = sharpen(get("traffic"));
    context.clearRect(0, 0, width, height);
    [["#7cc4ff", 0], ["#6ee7c8", 1]].forEach(([colour, column]) => {
      const most = Math.max(1, ...this.rates.map((entry) => Math.max(...entry)));
      context.beginPath();
      this.rates.forEach((entry, number) => {
        const x = width - (this.rates.length - 1 - number) * (width / 119);
        context.lineTo(x, height - 2 - (entry[column] / most) * (height - 5));
      });
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.stroke();
    });
  }

  telling(figures) {
    const kbit = (bytes) => ((bytes * 8) / 1000).toFixed(bytes < 12500 ? 1 : 0);
    const facts = [["kbit/s p50", kbit(figures.p50)], ["p95", kbit(figures.p95)], ["most", kbit(figures.max)],
      ["rate", `${figures.hz.toFixed(0)} Hz`], ["records", figures.records.toFixed(1)], ["events", figures.events.toFixed(2)],
      ["told pairs", amount(figures.toldPairs)], ["hidden pairs", amount(figures.hiddenPairs)],
      ["rays / tick", figures.rays < 0 ? "–" : amount(figures.rays)]];
    get("telling").replaceChildren(...facts.map(([name, text]) => {
      const pair = element("div");
      pair.append(element("dt", "", name), element("dd", "", text));
      return pair;
    }));
    const parts = FATES.map(([key, name, colour]) => ({ name, colour, share: figures[key] }));
    get("telling-bar").replaceChildren(...parts.map(({ colour, share }) => {
      const bar = element("i");
      Object.assign(bar.style, { background: colour, width: `${share * 100}%` });
      return bar;
    }));
    get("telling-parts").replaceChildren(...parts.map(({ name, colour, share }) => {
      const item = element("li");
      const key = element("i");
      key.style.background = colour;
      item.append(key, element("b", "", `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`), ` ${name}`);
      return item;
    }));
  }

  /** Stacked stage times of the last ticks seen, with the budget as a line when it is in reach. */
  timeline(history, metrics) {
    const [context, width, height] = sharpen(get("timeline"));
    context.clearRect(0, 0, width, height);
    const shown = history.slice(-Math.max(20, Math.floor(width / 3)));
    const totals = shown.map((entry) => Math.max(entry.metrics.tick, entry.stages.reduce((sum, ns) => sum + ns, 0)));
    const peak = Math.max(1, ...totals, metrics.p99);
    const top = metrics.budget < peak * 3 ? Math.max(metrics.budget * 1.12, peak * 1.05) : peak * 1.15;
    const scale = (height - 4) / top;
    shown.forEach((entry, number) => {
      const x = width - (shown.length - number) * 3;
      let y = height;
      const parts = [...entry.stages, Math.max(0, entry.metrics.tick - entry.stages.reduce((sum, ns) => sum + ns, 0))];
      parts.forEach((ns, part) => {
        const tall = ns * scale;
        context.fillStyle = part < entry.stages.length ? STAGE_COLOURS[part % STAGE_COLOURS.length] : "#3b4757";
        context.fillRect(x, y - tall, 2.4, tall);
        y -= tall;
      });
    });
    const level = (ns, colour, text) => {
      const y = Math.round(height - ns * scale) + 0.5;
      if (y < 0) return;
      context.strokeStyle = colour;
      context.setLineDash([4, 4]);
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.stroke();
      context.setLineDash([]);
      context.font = "10px system-ui, sans-serif";
      context.fillStyle = colour;
      context.fillText(text, 4, y > 14 ? y - 4 : y + 12);
    };
    level(metrics.budget, "#ff6b6b", "budget");
    level(metrics.p99, "rgba(230,237,245,0.55)", "p99");
  }
}
