// The map's triangles (`HRM1`, layout in server/livemesh.py), small matrices, and the picture of the map from above.

export const CLASSES = 5;
export const MOVERS = 4;
const BAKE_PIXELS_MAX = 2048;
const BAKE_MS = 200; // a picture of the map from above may take so long
const DRAFT = 1 / 3; // of the full size: the first one, of which nobody knows yet how long it takes
const FINER = 1.3; // less is not worth another picture

/** Fetch the mesh of the live match; null when there is none or it is damaged. */
export async function loadMesh(run) {
  const response = await fetch(`/api/map.bin?run=${run}`);
  return response.ok ? readMesh(await response.arrayBuffer()) : null;
}

/** Take apart what `LiveMesh.to_bytes` wrote; null when it is damaged. */
export function readMesh(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 32 || view.getUint32(0, false) !== 0x48524d31) return null;
  const [vertexCount, triangleCount] = [view.getUint32(4, true), view.getUint32(8, true)];
  if (buffer.byteLength !== 32 + vertexCount * 12 + triangleCount * 12) return null;
  const vertices = new Float32Array(buffer, 32, vertexCount * 3);
  const indices = new Uint32Array(buffer, 32 + vertexCount * 12, triangleCount * 3);
  const counts = Array.from({ length: CLASSES }, (_, number) => view.getUint32(12 + number * 4, true));
  const low = [Infinity, Infinity, Infinity];
  const high = [-Infinity, -Infinity, -Infinity];
  for (let at = 0; at < vertices.length; at += 1) {
    low[at % 3] = Math.min(low[at % 3], vertices[at]);
    high[at % 3] = Math.max(high[at % 3], vertices[at]);
  }
  return { vertices, indices, counts, low, high };
}

/** Column-major 4 × 4 matrices. */
export function multiply(a, b) {
  const out = new Float32Array(16);
  for (let column = 0; column < 4; column += 1) {
    for (let row = 0; row < 4; row += 1) {
      let sum = 0;
      for (let k = 0; k < 4; k += 1) sum += a[k * 4 + row] * b[column * 4 + k];
      out[column * 4 + row] = sum;
    }
  }
  return out;
}

export function perspective(fieldOfView, aspect, near, far) {
  const f = 1 / Math.tan(fieldOfView / 2);
  return new Float32Array([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1,
    0, 0, (2 * far * near) / (near - far), 0]);
}

/** View matrix of an eye looking along yaw and pitch; Z is up. */
export function look(eye, yaw, pitch) {
  const forward = [Math.cos(pitch) * Math.cos(yaw), Math.cos(pitch) * Math.sin(yaw), Math.sin(pitch)];
  const right = [Math.sin(yaw), -Math.cos(yaw), 0];
  const up = [right[1] * forward[2] - right[2] * forward[1], right[2] * forward[0] - right[0] * forward[2],
    right[0] * forward[1] - right[1] * forward[0]];
  const dot = (v) => -(v[0] * eye[0] + v[1] * eye[1] + v[2] * eye[2]);
  return new Float32Array([right[0], up[0], -forward[0], 0, right[1], up[1], -forward[1], 0,
    right[2], up[2], -forward[2], 0, dot(right), dot(up), -dot(forward), 1]);
}

export function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, `#version 300 es\nprecision highp float;\n${source}`);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  const uniforms = {};
  for (let at = 0; at < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); at += 1) {
    const { name } = gl.getActiveUniform(made, at);
    uniforms[name] = gl.getUniformLocation(made, name);
  }
  return { made, uniforms };
}

/** Put the mesh on the graphics card; `draw(class)` draws one class of triangles, `run` some of them. */
export function upload(gl, mesh) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, mesh.vertices, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.indices, gl.STATIC_DRAW);
  gl.bindVertexArray(null);
  const starts = mesh.counts.map((_, number) => mesh.counts.slice(0, number).reduce((sum, count) => sum + count, 0));
  return {
    run(first, count) {
      if (!count) return;
      gl.bindVertexArray(array);
      gl.drawElements(gl.TRIANGLES, count * 3, gl.UNSIGNED_INT, first * 12);
    },
    draw(number, most = Infinity) {
      this.run(starts[number], Math.min(mesh.counts[number], most));
    },
  };
}

const HEIGHT_VERTEX = `
layout(location = 0) in vec3 position;
uniform vec3 low, high;
out float height; out vec3 place;
void main() {
  vec3 unit = (position - low) / max(high - low, vec3(1e-3));
  height = position.z; place = position;
  gl_Position = vec4(unit.xy * 2.0 - 1.0, 1.0 - 2.0 * clamp(unit.z, 0.0, 1.0), 1.0);
}`;
// Height in 16 bits over two channels, class in the third: no float target is needed, which older cards lack.
const HEIGHT_FRAGMENT = `
in float height; in vec3 place;
uniform vec3 low, high; uniform float cut; uniform float kind;
out vec4 colour;
void main() {
  if (height > cut) discard;
  float unit = clamp((height - low.z) / max(high.z - low.z, 1e-3), 0.0, 1.0) * 65535.0;
  float upper = floor(unit / 256.0);
  colour = vec4(upper / 255.0, (unit - upper * 256.0) / 255.0, kind / 8.0, 1.0);
}`;
const SCREEN_VERTEX = `
out vec2 at;
void main() {
  vec2 corner = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  at = corner * 0.5 + 0.5; gl_Position = vec4(corner, 0.0, 1.0);
}`;
// Hill shading, a dozen taps of ambient occlusion and an outline where the height jumps: a plan, not a photograph.
const PLAN_FRAGMENT = `
in vec2 at; out vec4 colour;
uniform sampler2D heights; uniform vec2 pixel; uniform float span, metre;
vec4 texel(vec2 p) { return texture(heights, p); }
float up(vec4 t) { return (floor(t.r * 255.0 + 0.5) * 256.0 + floor(t.g * 255.0 + 0.5)) / 65535.0 * span; }
float near(vec2 d, float own) { vec4 t = texel(at + d * pixel); return t.a < 0.5 ? own - 6.0 : up(t); }
void main() {
  vec4 own = texel(at);
  if (own.a < 0.5) {
    float edge = 0.0;
    for (int k = 0; k < 8; k++) { float a = float(k) * 0.7853982;
      edge = max(edge, texel(at + vec2(cos(a), sin(a)) * 1.5 * pixel).a); }
    colour = vec4(0.43, 0.52, 0.62, 0.55 * edge); colour.rgb *= colour.a; return;
  }
  float h = up(own);
  float l = near(vec2(-1, 0), h), r = near(vec2(1, 0), h), d = near(vec2(0, -1), h), u = near(vec2(0, 1), h);
  float jump = max(max(abs(l - h), abs(r - h)), max(abs(d - h), abs(u - h)));
  float steep = clamp(((l - r) * 0.7 + (u - d) * 0.7) / (2.0 * metre) , -1.0, 1.0);
  float shade = 0.0;
  for (int k = 0; k < 16; k++) {
    float a = float(k) * 2.399963; float radius = sqrt((float(k) + 0.5) / 16.0) * 1.6 / metre;
    shade += clamp((near(vec2(cos(a), sin(a)) * radius, h) - h - 0.15) / 2.0, 0.0, 1.0);
  }
  float part = h / max(span, 1e-3);
  vec3 base = mix(vec3(0.105, 0.140, 0.190), vec3(0.37, 0.42, 0.48), pow(part, 0.8));
  float kind = floor(own.b * 8.0 + 0.5);
  if (kind == 1.0) base = vec3(0.06, 0.22, 0.36); if (kind == 2.0) base = vec3(0.48, 0.17, 0.05);
  if (kind == 3.0) base = vec3(0.16, 0.30, 0.08); if (kind == 4.0) base = mix(base, vec3(0.36, 0.33, 0.22), 0.5);
  base *= (1.0 - 0.55 * shade / 8.0) * (1.0 + (jump < 1.2 ? 0.35 * steep : 0.0));
  base = mix(base, vec3(0.50, 0.60, 0.71), 0.62 * smoothstep(0.28, 1.1, jump));
  base = mix(base, vec3(0.40, 0.48, 0.57), 0.25 * smoothstep(0.08, 0.2, jump) * (1.0 - smoothstep(0.28, 1.1, jump)));
  colour = vec4(base, 1.0);
}`;

/** Outlines of what moves as seen from above, in metres: {path, bottom} of each run of triangles, in its resting place. */
export function footprints(mesh, runs) {
  return runs.map(([first, count]) => {
    const path = new Path2D();
    let bottom = Infinity;
    for (let at = first * 3; at < (first + count) * 3; at += 3) {
      const [a, b, c] = [0, 1, 2].map((corner) => mesh.vertices.subarray(mesh.indices[at + corner] * 3, mesh.indices[at + corner] * 3 + 3));
      bottom = Math.min(bottom, a[2], b[2], c[2]);
      // Only what faces up: all of one winding, so that overlaps do not cancel each other.
      if ((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 1e-9) continue;
      path.moveTo(a[0], a[1]);
      path.lineTo(b[0], b[1]);
      path.lineTo(c[0], c[1]);
      path.closePath();
    }
    return { path, bottom };
  });
}

/**
 * Draws the map from above, cut at a height and without what moves, into a canvas of its own.
 *
 * As finely as there is time for: a graphics card draws 4 million pixels at once, a machine without one took 3.5 s for
 * them, in which the page stood still.
 */
export class PlanBaker {
  constructor(mesh, runs = []) {
    this.mesh = mesh;
    this.moving = runs.reduce((sum, [, count]) => sum + count, 0);
    this.canvas = document.createElement("canvas");
    const [width, height] = [mesh.high[0] - mesh.low[0], mesh.high[1] - mesh.low[1]];
    const pixels = Math.min(40, BAKE_PIXELS_MAX / Math.max(width, height, 1));
    this.full = [width, height].map((metres) => Math.max(16, Math.round(metres * pixels)));
    const gl = this.canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true, preserveDrawingBuffer: true });
    if (!gl) throw new Error("no WebGL2");
    this.gl = gl;
    this.heights = program(gl, HEIGHT_VERTEX, HEIGHT_FRAGMENT);
    this.plan = program(gl, SCREEN_VERTEX, PLAN_FRAGMENT);
    this.shape = upload(gl, mesh);
    this.blank = gl.createVertexArray();
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    for (const [name, value] of [["MIN_FILTER", "NEAREST"], ["MAG_FILTER", "NEAREST"], ["WRAP_S", "CLAMP_TO_EDGE"],
      ["WRAP_T", "CLAMP_TO_EDGE"]]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl[value]);
    this.target = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.texture, 0);
    this.depth = gl.createRenderbuffer();
    gl.bindRenderbuffer(gl.RENDERBUFFER, this.depth);
    gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, this.depth);
    this.resize(DRAFT);
  }

  /** From now on a picture has this part of the full width and height. */
  resize(part) {
    const { gl, canvas } = this;
    const [width, height] = this.full.map((pixels) => Math.max(16, Math.round(pixels * part)));
    Object.assign(canvas, { width, height });
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.bindRenderbuffer(gl.RENDERBUFFER, this.depth);
    gl.renderbufferStorage(gl.RENDERBUFFER, gl.DEPTH_COMPONENT24, width, height);
    this.part = part;
  }

  /** Take a finer size where the last picture was quick enough; false where it stays as it is. */
  refine() {
    const part = Math.min(1, this.part * Math.sqrt(BAKE_MS / Math.max(this.took, 1)));
    if (part < Math.min(1, this.part * FINER) || part <= this.part) return false;
    this.resize(part);
    return true;
  }

  /** The picture with everything above `cut` [m] taken away. */
  bake(cut) {
    const { gl, mesh } = this;
    const { width, height } = this.canvas;
    const started = performance.now();
    gl.viewport(0, 0, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.enable(gl.CULL_FACE); // what faces down is a ceiling, and is looked through
    gl.useProgram(this.heights.made);
    gl.uniform3fv(this.heights.uniforms.low, mesh.low);
    gl.uniform3fv(this.heights.uniforms.high, mesh.high);
    gl.uniform1f(this.heights.uniforms.cut, cut);
    for (let number = 0; number < CLASSES; number += 1) {
      gl.uniform1f(this.heights.uniforms.kind, number);
      this.shape.draw(number, number === MOVERS ? mesh.counts[number] - this.moving : undefined); // they come last
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.disable(gl.DEPTH_TEST);
    gl.disable(gl.CULL_FACE);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.useProgram(this.plan.made);
    gl.uniform2f(this.plan.uniforms.pixel, 1 / width, 1 / height);
    gl.uniform1f(this.plan.uniforms.span, mesh.high[2] - mesh.low[2]);
    gl.uniform1f(this.plan.uniforms.metre, (mesh.high[0] - mesh.low[0]) / width);
    gl.bindVertexArray(this.blank);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    // A copy, because drawing from a WebGL canvas reads it back from the graphics card every time.
    const image = document.createElement("canvas");
    Object.assign(image, { width, height });
    image.getContext("2d").drawImage(this.canvas, 0, 0);
    this.took = performance.now() - started;
    return { image, low: mesh.low, high: mesh.high };
  }
}
