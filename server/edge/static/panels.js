// What a live server says about itself, around the picture: tick, stages, network, snapshots; and the board.

import { amount, Board, element, sharpen } from "./board.js";

export const STAGE_COLOURS = ["#6ee7c8", "#7cc4ff", "#b794f6", "#f6ad55", "#fc8181", "#f6e05e", "#68d391", "#63b3ed",
  "#ed64a6", "#a0aec0", "#4fd1c5", "#d6bcfa", "#fbd38d", "#9ae6b4", "#feb2b2", "#90cdf4"];

const FATES = [["sent", "sent", "#6ee7c8"], ["atRest", "at rest", "#4b5a6c"], ["steady", "as foreseen", "#7cc4ff"],
  ["inFlight", "under way", "#b794f6"], ["deferred", "deferred", "#ff6b6b"]];

const get = (id) => document.getElementById(id);

/** 0.123 µs … 12.3 ms, three digits. */
export function duration(ns) {
  if (ns >= 1e9) return `${(ns / 1e9).toPrecision(3)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toPrecision(3)} ms`;
  return `${ns >= 1e5 ? Math.round(ns / 1e3) : (ns / 1e3).toPrecision(3)} µs`;
}

/** Counts that are not 0, each with its name from the server's lists: "12 turn, 3 flood". */
export function counted(info, list, counts) {
  const names = ((info && info.extra && info.extra[list]) || "").split(",");
  return counts.map((count, number) => (count ? `${amount(count)} ${(names[number] || `${number}`).replaceAll("_", " ")}` : ""))
    .filter(Boolean).join(", ");
}

export class Panels extends Board {
  constructor(match, choose) {
    super(match, choose);
    this.stageRows = [];
    this.rates = [];
  }

  begin(info) {
    super.begin(info);
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
    get("refused").textContent = counted(this.match.info, "reasons", latest.refused) || "nothing";
    get("flagged").textContent = counted(this.match.info, "measures", latest.flagged) || "nobody’s";
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
