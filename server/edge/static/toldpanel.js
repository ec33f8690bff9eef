// The panel of the client looked at, and its marks on the map from above.

import { sharpen } from "./board.js";
import { counted } from "./panels.js";
import { MODE } from "./told.js";

const SILENT_MS = 2500;
const CONE_M = 16;
const USUAL_HALF_CONE = Math.PI / 3;
export const RELATION_COLOURS = { told: "#6ee7c8", hidden: "#ff7ab8", far: "#8b98a9" };
const PARTS = [["header", "header", "#8b98a9"], ["own", "own state", "#f2cc60"], ["zone", "zone", "#b794f6"],
  ["rest", "records, events", "#6ee7c8"]];

const get = (id) => document.getElementById(id);

export function kilobits(bytes) {
  const value = (bytes * 8) / 1000;
  return `${value < 100 ? value.toFixed(1) : Math.round(value)} kbit/s`;
}

export function fact(name, text, testid) {
  const pair = document.createElement("div");
  const [term, value] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  value.textContent = text;
  if (testid) value.dataset.testid = testid;
  pair.append(term, value);
  return pair;
}

export class ToldPanel {
  constructor(told, match) {
    this.told = told;
    this.match = match;
  }

  /** How things stand, in one line. */
  note() {
    const { told, match } = this;
    const { latest } = told;
    if (!latest) {
      if (told.granted === false) return "Eight players are being looked at already. Waiting for a place…";
      return performance.now() - told.since > SILENT_MS ? "No client plays this one." : "Asking the server…";
    }
    const watched = match.latest && match.latest.byId.get(latest.watched);
    const name = watched ? match.nameOf(watched) : "somebody";
    if (latest.mode === MODE.killcam) return `Killed by ${name}: it sees through the eyes of ${name}.`;
    if (latest.mode === MODE.follow) return `It follows ${name} and is told what ${name} is.`;
    if (latest.mode === MODE.dead) return "It is dead and sees from where it fell.";
    if (latest.mode === MODE.camera) return "It watches the match from a camera.";
    return "It sees for itself.";
  }

  draw(asTold) {
    const { told } = this;
    get("told").hidden = told.entity === null;
    if (told.entity === null) return;
    get("told-note").textContent = this.note();
    get("told-body").hidden = !told.latest;
    get("told-mode").disabled = !told.schema || !told.latest;
    get("told-mode").setAttribute("aria-pressed", String(asTold));
    if (told.latest) this.fill(told.latest);
  }

  fill(latest) {
    const { told, match } = this;
    const last = told.parts ? Object.values(told.parts).reduce((sum, part) => sum + part, 0) : 0;
    get("told-facts").replaceChildren(
      fact("round trip", `${latest.rtt.toFixed(latest.rtt < 10 ? 1 : 0)} ms`, "told-rtt"),
      fact("loss", `${(latest.loss * 100).toFixed(1)} %`),
      fact("snapshots", `${latest.rate.toFixed(0)} Hz`, "told-hz"),
      fact("now", kilobits(latest.bytes), "told-rate"),
      fact("last one", `${last} B`, "told-last"),
      fact("may have", `${latest.budget} B`),
      fact("waiting", String(latest.waiting)),
      fact("rays", latest.horizon > 0 ? String(latest.rays) : "–"),
    );
    get("told-refused").textContent = counted(match.info, "reasons", latest.refused) || "nothing";
    const far = match.latest ? match.latest.players.filter((player) => told.relation(player.id) === "far").length : 0;
    const counts = { told: latest.told, hidden: latest.hidden, far };
    for (const [name, count] of Object.entries(counts)) {
      const cell = get(`told-${name}`);
      cell.textContent = count;
      cell.previousElementSibling.style.background = RELATION_COLOURS[name];
    }
    this.drawParts(last);
    this.drawSpark();
    const error = told.error();
    get("told-error").textContent = !error ? "comparing…"
      : `${(error.mean * 100).toFixed(1)} cm mean, ${(error.max * 100).toFixed(1)} cm at most`;
  }

  drawParts(last) {
    const { parts } = this.told;
    if (!parts) return;
    const bars = PARTS.filter(([key]) => parts[key] > 0).map(([key, name, colour]) => {
      const bar = document.createElement("i");
      bar.style.background = colour;
      bar.style.width = `${(parts[key] / last) * 100}%`;
      bar.title = `${name}: ${parts[key]} B`;
      return bar;
    });
    get("told-bar").replaceChildren(...bars);
    get("told-parts").textContent = PARTS.filter(([key]) => parts[key] > 0)
      .map(([key, name]) => `${name} ${parts[key]}`).join(" · ");
  }

  drawSpark() {
    const [context, width, height] = sharpen(get("told-spark"));
    const { spark } = this.told;
    context.clearRect(0, 0, width, height);
    const most = Math.max(1, ...spark.map((entry) => entry.bytes)) * 1.1;
    const end = spark.length ? spark[spark.length - 1].wall : 0;
    const at = (entry) => [width - ((end - entry.wall) / 60000) * width, height - 1 - (entry.bytes / most) * (height - 14)];
    context.beginPath();
    spark.forEach((entry) => context.lineTo(...at(entry)));
    context.strokeStyle = RELATION_COLOURS.told;
    context.lineWidth = 1.5;
    context.stroke();
    context.lineTo(width, height);
    if (spark.length) context.lineTo(at(spark[0])[0], height);
    context.fillStyle = "rgba(110,231,200,0.12)";
    context.fill();
    context.fillStyle = "#8b98a9";
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "left";
    context.fillText(`last minute, at most ${kilobits(most / 1.1)}`, 4, 10);
  }

  /** Cone and rings on the map: told in green, hidden in pink. Called after the ground, before the players. */
  mark(plan, scene) {
    const { told } = this;
    const { context } = plan;
    const { latest } = told;
    if (!latest) return;
    const through = scene.byId.get(latest.watched);
    const [x, y] = plan.toScreen(through ? through.p : latest.eye);
    const yaw = through ? through.yaw : latest.yaw;
    const half = latest.halfCone > 0 ? latest.halfCone : USUAL_HALF_CONE;
    if (latest.mode !== MODE.camera) this.cone(context, x, y, yaw, half, CONE_M * plan.scale);
    const radius = plan.radius();
    for (const player of scene.truth || scene.players) {
      const relation = told.relation(player.id);
      if (relation !== "told" && relation !== "hidden") continue;
      const [px, py] = plan.toScreen(player.p);
      context.setLineDash(relation === "hidden" ? [3, 3] : []);
      plan.ring(px, py, radius + 9.5, RELATION_COLOURS[relation], 1.8);
    }
    context.setLineDash([]);
  }

  cone(context, x, y, yaw, half, reach) {
    const fade = context.createRadialGradient(x, y, 0, x, y, reach);
    fade.addColorStop(0, "rgba(110,231,200,0.28)");
    fade.addColorStop(1, "rgba(110,231,200,0.02)");
    context.fillStyle = fade;
    context.strokeStyle = "rgba(110,231,200,0.4)";
    context.lineWidth = 1;
    context.beginPath();
    if (half < Math.PI) context.moveTo(x, y);
    context.arc(x, y, reach, -yaw - half, -yaw + half);
    context.closePath();
    context.fill();
    context.stroke();
  }
}
