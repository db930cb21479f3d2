// Sequences as pixels: a colour is the rank of a token by frequency within its own sequence.

// Magma, which people with colour blindness can read: its lightness rises steadily.
const STOPS = [
  [0, 0, 4], [20, 14, 54], [59, 15, 112], [100, 26, 128], [140, 41, 129], [183, 55, 121],
  [222, 73, 104], [247, 112, 92], [254, 159, 109], [254, 207, 146], [252, 253, 191],
];
const dark = matchMedia("(prefers-color-scheme: dark)");
let table = null;

function colourAt(share) {
  const at = share * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((value, i) => Math.round(value + (at - low) * (STOPS[low + 1][i] - value)));
}

// The colours of ranks 0 to 255 as pixels of canvases. The most frequent token is nearest to the ground of the page.
export function colours() {
  if (table) return table;
  table = new Uint32Array(256);
  for (let rank = 0; rank < 256; rank++) {
    const share = (Math.log1p(rank) / Math.log(257)) ** 0.6;
    const [red, green, blue] = colourAt(dark.matches ? 0.08 + 0.92 * share : 1 - 0.94 * share);
    table[rank] = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
  }
  return table;
}

export function onTheme(redraw) {
  dark.addEventListener("change", () => {
    table = null;
    redraw();
  });
}

const WIDTHS = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array };

// Tokens from base64, little-endian as all machines are that browsers and the server run on.
export function tokensOf(text, dtype) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return new WIDTHS[dtype](bytes.buffer);
}

// Each token's rank by falling frequency; equals by first occurrence; at most 255.
export function ranksOf(tokens) {
  const counts = new Map();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  const order = [...counts.entries()].sort((a, b) => b[1] - a[1]);
  const ranks = new Map(order.map(([token], rank) => [token, Math.min(rank, 255)]));
  return Uint8Array.from(tokens, (token) => ranks.get(token));
}

// Draws rows of ranks, each `height` pixels high with a gap below; the canvas is then scaled by style.
export function drawRows(canvas, rows, height = 5, gap = 1) {
  const width = Math.max(1, ...rows.map((row) => row.length));
  canvas.width = width;
  canvas.height = Math.max(1, rows.length * (height + gap) - gap);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const palette = colours();
  rows.forEach((row, r) => {
    for (let y = 0; y < height; y++) {
      const begin = (r * (height + gap) + y) * width;
      for (let t = 0; t < row.length; t++) pixels[begin + t] = palette[row[t]];
    }
  });
  context.putImageData(image, 0, 0);
}

export function drawLegend(canvas) {
  const rank = (_, x) => Math.round(Math.expm1((x / 255) ** (1 / 0.6) * Math.log(257)));
  drawRows(canvas, [Uint8Array.from({ length: 256 }, rank)], 1, 0);
}

// Which row of a canvas is at a pointer's height.
export function rowAt(canvas, event, rows) {
  const box = canvas.getBoundingClientRect();
  const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
  return Math.min(Math.max(row, 0), rows - 1);
}
