// The list of recordings.

import { element } from "./board.js";
import { clock } from "./timeline.js";

const get = (id) => document.getElementById(id);

function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function when(seconds) {
  return new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}

export class Library {
  /** `open(name)` is called for the one that is chosen. */
  constructor(open) {
    this.open = open;
    this.entries = [];
    get("library-filter").addEventListener("input", () => this.draw());
  }

  async load() {
    const note = get("library-note");
    note.textContent = this.entries.length ? "" : "Looking for recordings…";
    try {
      const response = await fetch("/api/replays");
      const found = await response.json();
      this.entries = found.recordings;
      note.textContent = found.note;
      get("library-more").textContent = found.more ? `and ${found.more} older ones` : "";
    } catch {
      note.textContent = "No connection to the edge. Reload the page to try again.";
    }
    this.draw();
  }

  draw() {
    const wanted = get("library-filter").value.trim().toLowerCase();
    const shown = this.entries.filter(({ name, map }) => `${name} ${map}`.toLowerCase().includes(wanted));
    get("recordings").replaceChildren(...shown.map((entry) => this.row(entry)));
  }

  row(entry) {
    const line = element("tr", entry.unreadable ? "unreadable" : "");
    line.dataset.testid = "recording";
    const state = entry.unreadable ? ["bad", "cannot be read"] : entry.complete ? ["good", "complete"] : ["warn", "cut or damaged"];
    const cells = [
      [entry.started_s ? when(entry.started_s) : when(entry.changed_s), entry.name], [entry.map || "–"], [entry.game || "–"],
      [entry.seconds === undefined ? "–" : clock(entry.seconds, 1)], [size(entry.bytes)],
      [state[1], entry.problems.length && !entry.complete ? entry.problems[0] : ""],
    ];
    cells.forEach(([text, small], number) => {
      const cell = element("td");
      const inner = element(number === 0 ? "a" : "span", number === 5 ? state[0] : "", text);
      if (small) inner.append(element("small", "", small));
      if (number === 0) {
        inner.href = `/replays?file=${encodeURIComponent(entry.name)}`;
        inner.addEventListener("click", (event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          event.stopPropagation();
          this.open(entry.name);
        });
      }
      cell.append(inner);
      line.append(cell);
    });
    line.addEventListener("click", () => this.open(entry.name));
    return line;
  }
}
