// Points as WebGL 2 draws them itself: one draw call, 5 bytes a point, and no library.
//
// regl-scatterplot needs `eval`, which the Content-Security-Policy forbids; deck.gl is 18 times as large as the whole
// page and did not finish a frame of half a million points with software rendering (benchmarks/RESULTS.md).

export interface View {
  x: number; // left edge, from 0 to 1
  y: number; // lower edge
  zoom: number;
}

const VERTEX = `#version 300 es
in vec2 place;
in float shade;
uniform vec3 view;
uniform float size;
out vec4 colour;
// A polynomial for viridis, so that no texture is needed.
vec3 viridis(float t) {
  const vec3 c0 = vec3(0.2777, 0.0054, 0.3340), c1 = vec3(0.1050, 1.4046, 1.3845), c2 = vec3(-0.3308, 0.2148, 0.0950);
  const vec3 c3 = vec3(-4.6342, -5.7991, -19.3324), c4 = vec3(6.2282, 14.1799, 56.6905);
  const vec3 c5 = vec3(4.7763, -13.7451, -65.3530), c6 = vec3(-5.4354, 4.6458, 26.3124);
  return c0 + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * (c5 + t * c6)))));
}
void main() {
  gl_Position = vec4((place - view.xy) * view.z * 2.0 - 1.0, 0.0, 1.0);
  gl_PointSize = size;
  colour = shade == 0.0 ? vec4(0.35, 0.35, 0.35, 0.4) : vec4(viridis((shade - 1.0) / 254.0), 0.75);
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour;
out vec4 result;
void main() { result = colour; }`;

/** Prepare points for drawing; return the function that draws them, or null where there is no WebGL 2. */
export function drawPoints(canvas: HTMLCanvasElement, places: Uint16Array<ArrayBuffer>, shades: Uint8Array<ArrayBuffer>): ((view: View) => void) | null {
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: false });
  const program = gl && programOf(gl);
  if (!gl || !program) return null;
  gl.useProgram(program);
  attribute(gl, program, "place", places, 2, gl.UNSIGNED_SHORT, true);
  attribute(gl, program, "shade", shades, 1, gl.UNSIGNED_BYTE, false);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  gl.clearColor(0.02, 0.027, 0.04, 1);
  gl.viewport(0, 0, canvas.width, canvas.height);
  const view = gl.getUniformLocation(program, "view");
  const size = gl.getUniformLocation(program, "size");
  const few = shades.length < 20_000 ? 3 : shades.length < 200_000 ? 1.5 : 0;
  return ({ x, y, zoom }) => {
    gl.uniform3f(view, x, y, zoom);
    gl.uniform1f(size, Math.min(8, 1.5 + few + Math.log2(zoom)));
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.drawArrays(gl.POINTS, 0, shades.length);
  };
}

function programOf(gl: WebGL2RenderingContext): WebGLProgram | null {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(kind);
    if (!shader) return null;
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return gl.getProgramParameter(program, gl.LINK_STATUS) ? program : null;
}

function attribute(
  gl: WebGL2RenderingContext,
  program: WebGLProgram,
  name: string,
  values: Uint16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>,
  size: number,
  type: number,
  normalized: boolean,
): void {
  const place = gl.getAttribLocation(program, name);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, size, type, normalized, 0, 0);
}
