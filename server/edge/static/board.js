// The people of a match, live or recorded: scoreboard, teams, kill feed, the card of the player followed.

import { FLAG } from "./feed.js";

const ROWS_MAX = 120;
const KILL_MS = 7000;

const get = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
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

export class Board {
  constructor(match, choose) {
    this.match = match;
    this.choose = choose;
    this.sort = { key: "score", sign: -1 };
    this.rows = new Map();
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

  /** The parts that change only when another match begins. */
  begin(info) {
    get("map-name").textContent = info.map_name;
    get("game-name").textContent = info.game;
    get("fact-rate").textContent = `${info.tick_rate} Hz`;
    get("killfeed").replaceChildren();
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
}
