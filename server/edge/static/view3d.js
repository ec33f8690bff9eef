// The match in three dimensions, on plain WebGL 2: the map with flat shading, players as capsules, glowing lines.

import { FLAG } from "./feed.js";
import { CLASSES, MOVERS, look, multiply, perspective, program, upload } from "./mesh.js";

const FIELD_OF_VIEW = 1.25;
const NEAR = 0.08;
const FAR = 1500;
const INSTANCES_MAX = 1024;
const INSTANCE_FLOATS = 12;
const GLOWS_MAX = 3000;
const GLOW_FLOATS = 12;
const EYE_BELOW_TOP = 0.15;
const CHASE_M = 4.2;
const SKY = [0.085, 0.108, 0.14];
const NAMES_WITHIN_M = 70;
const HIDDEN_TINT = [1.0, 0.48, 0.72];
const UNKNOWN_TINT = [0.2, 0.22, 0.25];

const MAP_VERTEX = `
layout(location = 0) in vec3 position;
uniform mat4 camera; uniform vec3 shift; out vec3 place;
void main() { place = position + shift; gl_Position = camera * vec4(place, 1.0); }`;
// The normal comes from the derivatives of the position, so the mesh needs none. `cutaway` opens what stands between
// a chasing camera and the player it follows; a camera above `roof` looks into the rooms as into a doll's house.
const MAP_FRAGMENT = `
in vec3 place; out vec4 colour;
uniform vec3 eye, sky, focus; uniform float kind, cutaway, floorLow, floorHigh, roof;
float line(float v, float width) { float f = fwidth(v); float d = abs(fract(v - 0.5) - 0.5);
  return (1.0 - smoothstep(width * f, (width + 1.0) * f, d)) * (1.0 - smoothstep(0.12, 0.5, f)); }
void main() {
  if (place.z > roof && eye.z > roof) discard;
  vec3 away = place - eye; float reach = length(away);
  if (cutaway > 0.0) {
    vec3 axis = normalize(focus - eye); float along = dot(away, axis);
    if (along < cutaway && length(away - axis * along) < 0.25 + 0.28 * along) discard;
  }
  vec3 n = normalize(cross(dFdx(place), dFdy(place)));
  if (dot(n, away) > 0.0) n = -n;
  float light = 0.92 + 0.30 * n.z + 0.20 * n.x + 0.12 * n.y - 0.10 * abs(n.y);
  float level = clamp((place.z - floorLow) / max(floorHigh - floorLow, 1.0), 0.0, 1.0);
  vec3 base = mix(vec3(0.19, 0.245, 0.32), vec3(0.35, 0.395, 0.455), level);
  if (n.z > 0.7) base = mix(vec3(0.26, 0.31, 0.37), vec3(0.44, 0.47, 0.50), level);
  if (kind == 1.0) base = vec3(0.10, 0.34, 0.52); if (kind == 2.0) base = vec3(0.95, 0.34, 0.08);
  if (kind == 3.0) base = vec3(0.28, 0.50, 0.12); if (kind == 4.0) base = vec3(0.48, 0.42, 0.26);
  vec3 a = abs(n); float grid = 0.0;
  if (a.z > 0.6) grid = max(line(place.x / 2.0, 0.5), line(place.y / 2.0, 0.5));
  else grid = max(line(place.z / 2.0, 0.5), line((a.x > a.y ? place.y : place.x) / 2.0, 0.5));
  vec3 lit = base * light + vec3(0.055, 0.075, 0.095) * grid;
  colour = vec4(mix(lit, sky, 0.9 * (1.0 - exp(-reach * 0.0075))), 1.0);
}`;
const PLAYER_VERTEX = `
layout(location = 0) in vec3 shape;   // unit sphere direction, or box corner
layout(location = 1) in float part;   // 0 lower half, 1 upper half, 2 visor, 3 weapon
layout(location = 2) in vec4 feet;    // position, height
layout(location = 3) in vec4 facing;  // yaw, pitch, radius, highlight
layout(location = 4) in vec4 tint;    // colour, alive
uniform mat4 camera; out vec3 place, normal, paint; out float shine;
void main() {
  float yaw = facing.x, pitch = facing.y, radius = facing.z, height = feet.w;
  vec3 forward = vec3(cos(yaw), sin(yaw), 0.0), left = vec3(-sin(yaw), cos(yaw), 0.0);
  vec3 local; normal = shape; paint = tint.rgb;
  if (part < 1.5) local = shape * radius + vec3(0.0, 0.0, part < 0.5 ? radius : height - radius);
  else {
    vec3 size = part < 2.5 ? vec3(0.16, 0.24, 0.075) : vec3(0.40, 0.045, 0.06);
    vec3 box = shape * size + (part < 2.5 ? vec3(radius * 0.72, 0.0, 0.0) : vec3(0.42, 0.0, 0.0));
    float c = cos(pitch), s = sin(pitch);
    box = vec3(box.x * c - box.z * s, box.y, box.x * s + box.z * c);
    float z = part < 2.5 ? height - 0.30 : height * 0.62;
    local = forward * box.x + left * (box.y - (part < 2.5 ? 0.0 : radius * 1.05)) + vec3(0.0, 0.0, box.z + z);
    normal = forward * shape.x + left * shape.y + vec3(0.0, 0.0, shape.z);
    paint = part < 2.5 ? vec3(0.03, 0.05, 0.08) : vec3(0.16, 0.18, 0.21);
  }
  place = feet.xyz + local; shine = facing.w;
  if (tint.w < 0.5) { if (part > 1.5) place = feet.xyz; else place.z = feet.z + max(0.0, shape.z) * 0.18; }
  gl_Position = camera * vec4(place, 1.0);
}`;
const PLAYER_FRAGMENT = `
in vec3 place, normal, paint; in float shine; out vec4 colour;
uniform vec3 eye, sky;
void main() {
  vec3 n = normalize(normal), toEye = normalize(eye - place);
  float light = 0.50 + 0.35 * n.z + 0.2 * dot(n, normalize(vec3(0.5, 0.3, 0.4)));
  float rim = pow(1.0 - max(dot(n, toEye), 0.0), 3.0);
  vec3 lit = paint * light + (paint * 0.6 + 0.25) * rim * (0.7 + 0.4 * shine);
  colour = vec4(mix(lit, sky, 1.0 - exp(-length(eye - place) * 0.008)), 1.0);
}`;
const GLOW_VERTEX = `
layout(location = 0) in vec4 start; layout(location = 1) in vec4 end; layout(location = 2) in vec4 tint;
uniform mat4 camera; uniform vec3 eye; out vec4 paint; out vec2 at; out float round_;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  float width = start.w; vec3 along = end.xyz - start.xyz; round_ = end.w;
  vec3 centre = end.w > 0.5 ? start.xyz : mix(start.xyz, end.xyz, corner.x);
  vec3 toEye = normalize(eye - centre);
  vec3 side = end.w > 0.5 ? normalize(cross(toEye, vec3(0.0, 0.0, 1.0)) + vec3(1e-5, 0.0, 0.0)) : normalize(along + 1e-6);
  vec3 up = normalize(cross(side, toEye) + vec3(0.0, 0.0, 1e-6));
  vec3 p = centre + up * (corner.y * 2.0 - 1.0) * width;
  if (end.w > 0.5) p += side * (corner.x * 2.0 - 1.0) * width;
  paint = tint; at = corner * 2.0 - 1.0;
  gl_Position = camera * vec4(p, 1.0);
}`;
const GLOW_FRAGMENT = `
in vec4 paint; in vec2 at; in float round_; out vec4 colour;
void main() {
  float d = round_ > 0.5 ? length(at) : abs(at.y);
  float glow = pow(max(0.0, 1.0 - d), 1.6) * (round_ > 0.1 ? 1.0 : 0.25 + 0.75 * (at.x * 0.5 + 0.5));
  colour = vec4(paint.rgb * paint.a * glow, 0.0);
}`;

function rgb(colour) {
  const value = parseInt(colour.slice(1), 16);
  return [(value >> 16) / 255, ((value >> 8) & 255) / 255, (value & 255) / 255];
}

/** Capsule halves as a sphere split at its equator, a visor and a weapon: [x, y, z, part] per vertex. */
function playerShape() {
  const [around, rings] = [18, 4];
  const vertices = [];
  const indices = [];
  const rows = [];
  for (let part = 0; part < 2; part += 1) {
    for (let ring = 0; ring <= rings; ring += 1) {
      const up = (part === 0 ? ring / rings - 1 : ring / rings) * (Math.PI / 2);
      rows.push(vertices.length / 4);
      for (let step = 0; step < around; step += 1) {
        const turn = (step / around) * 2 * Math.PI;
        vertices.push(Math.cos(up) * Math.cos(turn), Math.cos(up) * Math.sin(turn), Math.sin(up), part);
      }
    }
  }
  for (let row = 0; row + 1 < rows.length; row += 1) {
    for (let step = 0; step < around; step += 1) {
      const next = (step + 1) % around;
      const [a, b, c, d] = [rows[row] + step, rows[row] + next, rows[row + 1] + step, rows[row + 1] + next];
      indices.push(a, b, d, a, d, c);
    }
  }
  for (const part of [2, 3]) {
    for (const [axis, sign] of [[0, 1], [0, -1], [1, 1], [1, -1], [2, 1], [2, -1]]) {
      const first = vertices.length / 4;
      for (const [u, v] of [[-1, -1], [1, -1], [1, 1], [-1, 1]]) {
        const corner = [0, 0, 0];
        corner[axis] = sign;
        corner[(axis + 1) % 3] = u * sign;
        corner[(axis + 2) % 3] = v;
        vertices.push(...corner, part);
      }
      indices.push(first, first + 1, first + 2, first, first + 2, first + 3);
    }
  }
  return { vertices: new Float32Array(vertices), indices: new Uint16Array(indices) };
}

export class View3d {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: false });
    if (!gl) throw new Error("no WebGL2");
    this.canvas = canvas;
    this.gl = gl;
    this.map = program(gl, MAP_VERTEX, MAP_FRAGMENT);
    this.players = program(gl, PLAYER_VERTEX, PLAYER_FRAGMENT);
    this.glows = program(gl, GLOW_VERTEX, GLOW_FRAGMENT);
    this.mesh = null;
    this.camera = { eye: [0, 0, 10], yaw: 0, pitch: -0.6 };
    this.orbit = { yaw: 0, pitch: -0.22, reach: CHASE_M };
    this.roof = Infinity;
    this.ready = false; // the chase camera eases; its first position does not
    this.makePlayers();
    this.makeGlows();
  }

  setMesh(mesh) {
    this.mesh = mesh;
    this.shape = mesh ? upload(this.gl, mesh) : null;
  }

  makePlayers() {
    const { gl } = this;
    const shape = playerShape();
    this.playerArray = gl.createVertexArray();
    this.playerIndices = shape.indices.length;
    gl.bindVertexArray(this.playerArray);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, shape.vertices, gl.STATIC_DRAW);
    this.attribute(0, 3, 16, 0, 0);
    this.attribute(1, 1, 16, 12, 0);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, shape.indices, gl.STATIC_DRAW);
    this.instances = new Float32Array(INSTANCES_MAX * INSTANCE_FLOATS);
    this.instanceBuffer = this.streaming(this.instances.byteLength);
    for (let slot = 0; slot < 3; slot += 1) this.attribute(2 + slot, 4, INSTANCE_FLOATS * 4, slot * 16, 1);
    gl.bindVertexArray(null);
  }

  makeGlows() {
    const { gl } = this;
    this.glowArray = gl.createVertexArray();
    gl.bindVertexArray(this.glowArray);
    this.glowData = new Float32Array(GLOWS_MAX * GLOW_FLOATS);
    this.glowBuffer = this.streaming(this.glowData.byteLength);
    for (let slot = 0; slot < 3; slot += 1) this.attribute(slot, 4, GLOW_FLOATS * 4, slot * 16, 1);
    gl.bindVertexArray(null);
  }

  streaming(bytes) {
    const { gl } = this;
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, bytes, gl.DYNAMIC_DRAW);
    return buffer;
  }

  attribute(slot, size, stride, offset, divisor) {
    const { gl } = this;
    gl.enableVertexAttribArray(slot);
    gl.vertexAttribPointer(slot, size, gl.FLOAT, false, stride, offset);
    gl.vertexAttribDivisor(slot, divisor);
  }

  height(player, info) {
    return player.flags & FLAG.crouched ? info.crouch_height : info.player_height;
  }

  /** Place the camera for a mode; the player followed may be missing. */
  aim(mode, player, info, seconds) {
    const { camera, orbit } = this;
    if (mode === "free" || !player) return 0;
    const eye = [player.p[0], player.p[1], player.p[2] + this.height(player, info) - EYE_BELOW_TOP];
    if (mode === "first") {
      Object.assign(camera, { eye, yaw: player.yaw, pitch: player.pitch });
      this.ready = false;
      return 0;
    }
    const yaw = player.yaw + orbit.yaw;
    const pitch = Math.max(-1.45, Math.min(1.2, player.pitch * 0.4 + orbit.pitch));
    const ease = this.ready ? 1 - Math.exp(-seconds * 7) : 1;
    let delta = (yaw - camera.yaw) % (2 * Math.PI);
    if (delta > Math.PI) delta -= 2 * Math.PI;
    if (delta < -Math.PI) delta += 2 * Math.PI;
    camera.yaw += delta * ease;
    camera.pitch += (pitch - camera.pitch) * ease;
    this.focus = this.ready ? this.focus.map((value, axis) => value + (eye[axis] - value) * (1 - Math.exp(-seconds * 14))) : eye;
    const back = [Math.cos(camera.pitch) * Math.cos(camera.yaw), Math.cos(camera.pitch) * Math.sin(camera.yaw), Math.sin(camera.pitch)];
    camera.eye = this.focus.map((value, axis) => value - back[axis] * orbit.reach + (axis === 2 ? 0.25 : 0));
    this.ready = true;
    return Math.max(0.01, orbit.reach - 0.8);
  }

  /** Move the free camera: along its view, to the right, up [m]. */
  fly(forward, right, up) {
    const { eye, yaw, pitch } = this.camera;
    this.camera.eye = [
      eye[0] + Math.cos(pitch) * Math.cos(yaw) * forward + Math.sin(yaw) * right,
      eye[1] + Math.cos(pitch) * Math.sin(yaw) * forward - Math.cos(yaw) * right,
      eye[2] + Math.sin(pitch) * forward + up,
    ];
  }

  draw(scene, match, mode, selected, cutaway, told) {
    const { gl, camera, canvas } = this;
    const aspect = canvas.width / Math.max(1, canvas.height);
    this.matrix = multiply(perspective(FIELD_OF_VIEW, aspect, NEAR, FAR), look(camera.eye, camera.yaw, camera.pitch));
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...SKY, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
    if (this.shape) this.drawMap(match.info, cutaway, scene.movers || []);
    this.drawPlayers(scene, match, mode, selected, told);
    this.drawGlows(scene, match);
  }

  use(made) {
    const { gl, camera } = this;
    gl.useProgram(made.made);
    gl.uniformMatrix4fv(made.uniforms.camera, false, this.matrix);
    gl.uniform3fv(made.uniforms.eye, camera.eye);
    if (made.uniforms.sky) gl.uniform3fv(made.uniforms.sky, SKY);
    return made.uniforms;
  }

  drawMap(info, cutaway, movers) {
    const { gl } = this;
    const uniforms = this.use(this.map);
    gl.uniform1f(uniforms.cutaway, cutaway);
    gl.uniform1f(uniforms.roof, this.roof);
    gl.uniform3fv(uniforms.focus, this.focus || [0, 0, 0]);
    gl.uniform1f(uniforms.floorLow, this.mesh.low[2]);
    gl.uniform1f(uniforms.floorHigh, this.mesh.high[2]);
    const runs = info.movers || [];
    const moving = runs.reduce((sum, [, count]) => sum + count, 0);
    gl.uniform3fv(uniforms.shift, [0, 0, 0]);
    for (let number = 0; number < CLASSES; number += 1) {
      gl.uniform1f(uniforms.kind, number);
      this.shape.draw(number, number === MOVERS ? this.mesh.counts[number] - moving : undefined);
    }
    gl.uniform1f(uniforms.kind, MOVERS);
    runs.forEach(([first, count], number) => { // what moves comes last in its class
      gl.uniform3fv(uniforms.shift, movers[number] || [0, 0, 0]);
      this.shape.run(first, count);
    });
  }

  /** Everybody to draw, with colour: who is hidden from the client looked at is pink, who it does not know grey. */
  painted(scene, match, told) {
    const players = scene.players.map((player) => {
      const own = rgb(match.colourOf(player.team, player));
      return { player, tint: told.relation(player.id) === "hidden" ? HIDDEN_TINT.map((v, n) => v * 0.75 + own[n] * 0.15) : own };
    });
    const unknown = (scene.truth || []).filter((player) => !scene.byId.has(player.id));
    return players.concat(unknown.map((player) => ({ player, tint: UNKNOWN_TINT })));
  }

  drawPlayers(scene, match, mode, selected, told) {
    const { gl, instances, camera } = this;
    const [dx, dy, dz] = [Math.cos(camera.pitch) * Math.cos(camera.yaw), Math.cos(camera.pitch) * Math.sin(camera.yaw),
      Math.sin(camera.pitch)];
    let count = 0;
    for (const { player, tint: colour } of this.painted(scene, match, told)) {
      if (count === INSTANCES_MAX) break;
      const ahead = (player.p[0] - camera.eye[0]) * dx + (player.p[1] - camera.eye[1]) * dy + (player.p[2] - camera.eye[2]) * dz;
      if (ahead < -2) continue;
      const alive = (player.flags & FLAG.alive) !== 0;
      const tint = colour.map((part) => (alive ? part : part * 0.3));
      const tall = alive ? this.height(player, match.info) : 0.3; // the fallen lie low
      if (mode === "first" && player.id === selected) continue;
      instances.set([...player.p, tall, player.yaw, player.pitch, match.info.player_radius,
        player.id === selected ? 1 : 0, ...tint, Number(alive)], count * INSTANCE_FLOATS);
      count += 1;
    }
    this.use(this.players);
    gl.bindVertexArray(this.playerArray);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.instanceBuffer);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, instances, 0, count * INSTANCE_FLOATS);
    gl.drawElementsInstanced(gl.TRIANGLES, this.playerIndices, gl.UNSIGNED_SHORT, 0, count);
  }

  drawGlows(scene, match) {
    const { gl, glowData } = this;
    let count = 0;
    const add = (p, width, end, round, colour, alpha) => {
      if (count === GLOWS_MAX) return;
      glowData.set([...p, width, ...end, round, ...rgb(colour), alpha], count * GLOW_FLOATS);
      count += 1;
    };
    const dot = (p, width, colour, alpha, up = 0) => add([p[0], p[1], p[2] + up], width, p, 1, colour, alpha);
    const kinds = match.info.pickups;
    for (const pickup of scene.pickups) {
      const name = kinds[pickup.kind] || "";
      const colour = name.includes("health") ? "#7ee787" : name.includes("armour") ? "#58a6ff" : "#f2cc60";
      if (pickup.available) {
        dot(pickup.p, 0.55, colour, 0.55, 0.45);
        dot(pickup.p, 0.2, "#ffffff", 0.8, 0.45 + 0.06 * Math.sin(scene.time / 300 + pickup.p[0]));
      }
    }
    for (const projectile of scene.projectiles) {
      dot(projectile.p, 0.9, "#ff9d4d", 0.8);
      dot(projectile.p, 0.25, "#fff3c4", 1);
    }
    for (const effect of scene.effects) {
      const age = Math.max(0, (scene.time - effect.start) / effect.life);
      const left = 1 - age;
      if (effect.kind === "tracer") add(effect.p, 0.045, effect.end, 0, effect.colour, 1.4 * left);
      else if (effect.kind === "spark") dot(effect.p, 0.2 + 0.5 * age, "#ffe08a", 1.2 * left);
      else if (effect.kind === "blast") {
        dot(effect.p, effect.radius * (0.3 + 0.9 * Math.sqrt(age)), "#ff7a33", 1.1 * left);
        dot(effect.p, effect.radius * 0.5 * left, "#fff3c4", 1.2 * left);
      } else if (effect.kind === "spawn") dot(effect.p, 1.4 * left, effect.colour, 0.8 * left, 0.7);
      else if (effect.kind === "death") dot(effect.p, 0.3 + age, effect.colour, 0.7 * left * left, 0.5);
    }
    const fading = count;
    // Lines that do not fade along their way (0.2 is neither a dot nor a tracer), and are seen through everything.
    for (const { from, to, colour, width, alpha } of scene.lines || []) add(from, width, to, 0.2, colour, alpha);
    this.use(this.glows);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE);
    gl.depthMask(false);
    gl.disable(gl.CULL_FACE);
    gl.bindVertexArray(this.glowArray);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.glowBuffer);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, glowData, 0, count * GLOW_FLOATS);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, fading);
    if (count > fading) this.drawThrough(fading, count);
    gl.depthMask(true);
    gl.disable(gl.BLEND);
  }

  /** Draw the glows from `first` on over everything that stands before them. */
  drawThrough(first, count) {
    const { gl, glowData } = this;
    gl.disable(gl.DEPTH_TEST);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, glowData, first * GLOW_FLOATS, (count - first) * GLOW_FLOATS);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count - first);
    gl.enable(gl.DEPTH_TEST);
  }

  /** Where a point stands on a screen of that size, and how far away; null behind the camera. */
  project(p, size) {
    const m = this.matrix;
    if (!m) return null;
    const w = m[3] * p[0] + m[7] * p[1] + m[11] * p[2] + m[15];
    if (w < NEAR) return null;
    const x = (m[0] * p[0] + m[4] * p[1] + m[8] * p[2] + m[12]) / w;
    const y = (m[1] * p[0] + m[5] * p[1] + m[9] * p[2] + m[13]) / w;
    if (Math.abs(x) > 1.1 || Math.abs(y) > 1.1) return null;
    return [(x * 0.5 + 0.5) * size[0], (0.5 - y * 0.5) * size[1], w];
  }

  pick(scene, x, y, size) {
    let best = null;
    let least = 60;
    for (const player of scene.players) {
      const at = this.project([player.p[0], player.p[1], player.p[2] + 0.8], size);
      if (at && Math.hypot(at[0] - x, at[1] - y) < least) [best, least] = [player, Math.hypot(at[0] - x, at[1] - y)];
    }
    return best;
  }

  /** Names and health over the players, and the cross-hair, on the 2-D canvas above. */
  label(context, scene, match, mode, selected, size, told) {
    context.clearRect(0, 0, ...size);
    context.font = "500 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.lineJoin = "round";
    const seen = [];
    for (const player of scene.players) {
      if (!(player.flags & FLAG.alive) || (mode === "first" && player.id === selected)) continue;
      const top = player.p[2] + this.height(player, match.info) + 0.25;
      const at = this.project([player.p[0], player.p[1], top], size);
      if (at && at[2] < NAMES_WITHIN_M) seen.push([at, player]);
    }
    seen.sort((a, b) => b[0][2] - a[0][2]);
    for (const [[x, y, away], player] of seen.slice(-60)) {
      context.globalAlpha = Math.max(0.15, 1 - away / NAMES_WITHIN_M);
      const width = Math.max(14, Math.min(46, 300 / away));
      if (player.health !== null) {
        context.fillStyle = "rgba(5,8,12,0.7)";
        context.fillRect(x - width / 2 - 1, y - 4, width + 2, 5);
        context.fillStyle = match.colourOf(player.team, player);
        context.fillRect(x - width / 2, y - 3, width * Math.max(0, Math.min(1, player.health / 100)), 3);
      }
      if (away > 35) continue;
      context.lineWidth = 3;
      context.strokeStyle = "rgba(5,8,12,0.8)";
      context.strokeText(match.nameOf(player), x, y - 9);
      context.fillStyle = told.relation(player.id) === "hidden" ? "#ff7ab8" : "#e6edf5";
      context.fillText(match.nameOf(player), x, y - 9);
    }
    context.globalAlpha = 1;
    if (mode === "first") this.crosshair(context, size);
  }

  crosshair(context, [width, height]) {
    const [x, y] = [width / 2, height / 2];
    context.strokeStyle = "rgba(255,255,255,0.85)";
    context.lineWidth = 1.6;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * 5, y + dy * 5);
      context.lineTo(x + dx * 12, y + dy * 12);
    }
    context.stroke();
  }
}
