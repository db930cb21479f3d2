// What the server does now: numbers from its counters, and a wall of some of the sequences that it sends.
import { call } from "./api.js";
import { colours, onTheme, ranksOf, rowAt, tokensOf } from "./pixels.js";
import { bytes, magnitude, origin, percent } from "./text.js";

const POLL = 500; // ms
const TOKENS = 512;
const LINE = 6; // pixels of a row, with the gap below it
const SAMPLES = 6; // polls that rates are of
const SHARES = 400; // rows that the shares are of

const element = (id) => document.getElementById(id);
let timer = 0;
let frame = 0;
let controller = null;
let samples = []; // of the counters, the oldest first
let latest = 0; // number of the newest row seen
let waiting = []; // rows that the wall has not shown
let wall = []; // rows that it shows, the newest first
let recent = [];
let paused = matchMedia("(prefers-reduced-motion: reduce)").matches;
let demoIndex = 0;
let demoAt = 0;
let lastStep = 0;

function lines() {
  return Math.max(8, Math.floor(element("wall").clientHeight / LINE));
}

function draw() {
  const canvas = element("wall");
  canvas.width = TOKENS;
  canvas.height = lines() * LINE;
  const context = canvas.getContext("2d");
  const palette = colours();
  const image = context.createImageData(TOKENS, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  wall.slice(0, lines()).forEach((row, r) => {
    // Short rows are stretched to the width.
    for (let x = 0; x < TOKENS; x++) {
      const colour = palette[row.ranks[Math.floor((x * row.ranks.length) / TOKENS)]];
      for (let y = 0; y < LINE - 1; y++) pixels[(r * LINE + y) * TOKENS + x] = colour;
    }
  });
  context.putImageData(image, 0, 0);
}

// Rows come in at the pace at which they are waiting.
function step(now) {
  frame = requestAnimationFrame(step);
  if (paused || waiting.length === 0) return;
  const pause = Math.max(30, Math.min(400, POLL / waiting.length));
  if (now - lastStep < pause) return;
  lastStep = now;
  wall.unshift(waiting.shift());
  wall.length = Math.min(wall.length, lines());
  draw();
}

function add(rows) {
  for (const row of rows) {
    row.ranks = ranksOf(row.tokens);
    waiting.push(row);
    recent.push(row);
  }
  if (waiting.length > 64) waiting = waiting.slice(-64);
  recent = recent.slice(-SHARES);
  // At first the wall is filled at once.
  while (wall.length < lines() && waiting.length) wall.unshift(waiting.shift());
  draw();
  shares();
}

function shares() {
  const counts = new Map();
  for (const row of recent) {
    const name = row.part ? `${row.part}: ${row.family}` : row.family;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const sorted = [...counts.entries()].sort((a, b) => b[1] - a[1]);
  const top = sorted.slice(0, 12);
  const rest = sorted.slice(12).reduce((sum, [, count]) => sum + count, 0);
  if (rest) top.push(["others", rest]);
  element("live-shares").replaceChildren(
    ...top.flatMap(([name, count]) => {
      const label = document.createElement("span");
      label.textContent = name;
      const bar = document.createElement("meter");
      bar.max = top[0][1];
      bar.value = count;
      bar.setAttribute("aria-label", name);
      const value = document.createElement("span");
      value.textContent = percent(count / recent.length);
      return [label, bar, value];
    }),
  );
}

function numbers(now) {
  samples = [...samples.slice(1 - SAMPLES), now];
  const before = samples[0];
  const since = now.seconds - before.seconds;
  element("live-streams").textContent = now.streams_open;
  element("live-tokens").textContent = magnitude(now.tokens);
  element("live-memory").textContent = bytes(now.held_bytes);
  if (since <= 0) return;
  const cores = (now.core_seconds - before.core_seconds) / since;
  const wait = (now.wait_seconds - before.wait_seconds) / since / Math.max(1, now.streams_open);
  element("live-rate").textContent = magnitude((now.tokens - before.tokens) / since);
  element("live-cores").textContent = `${cores.toFixed(1)} of ${now.threads}`;
  element("live-wait").textContent = now.streams_open ? percent(Math.min(1, wait)) : "–";
}

// Nothing flows: the wall shows what would.
async function demo(signal) {
  if (performance.now() - demoAt < 4000 && wall.length >= lines()) return;
  demoAt = performance.now();
  const count = wall.length < lines() ? 64 : 32;
  const body = { preset: "up", first: String(demoIndex), count, tokens: TOKENS };
  const preview = await call("preview", body, signal);
  demoIndex += count;
  const tokens = tokensOf(preview.tokens, preview.dtype);
  add(preview.rows.map((row, i) => ({ ...row, tokens: tokens.subarray(i * preview.shown, (i + 1) * preview.shown) })));
}

async function poll() {
  controller = new AbortController();
  const { signal } = controller;
  try {
    const now = await call("live", undefined, signal);
    numbers(now);
    const fresh = now.rows.filter((row) => row.number > latest);
    if (fresh.length) latest = fresh.at(-1).number;
    if (fresh.length) add(fresh.map((row) => ({ ...row, tokens: tokensOf(row.tokens, row.dtype) })));
    const idle = now.streams_open === 0;
    element("live-source").textContent = idle
      ? "No client reads a stream now. The wall shows the start of the preset up."
      : `The wall shows some of the sequences that ${now.streams_open === 1 ? "the client reads" : "clients read"} now.`;
    if (idle) await demo(signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    element("live-source").textContent = error.message;
  }
  if (!signal.aborted) timer = setTimeout(poll, document.hidden ? 10 * POLL : POLL);
}

export function begin() {
  const canvas = element("wall");
  canvas.addEventListener("pointermove", (event) => {
    const row = wall[rowAt(canvas, event, lines())];
    if (!row) return;
    const of = row.stream ? ` of stream ${row.stream}` : "";
    element("wall-row").textContent = `Index ${row.index}${of}: made by ${origin(row)}`;
  });
  const button = element("wall-pause");
  const label = () => {
    button.textContent = paused ? "Move the wall" : "Pause the wall";
    button.setAttribute("aria-pressed", String(paused));
  };
  label();
  button.addEventListener("click", () => {
    paused = !paused;
    label();
  });
  onTheme(draw);
  addEventListener("resize", () => {
    if (!element("view-live").hidden) draw();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || element("view-live").hidden) return;
    hide();
    show();
  });
}

export function show() {
  samples = [];
  frame = requestAnimationFrame(step);
  poll();
}

export function hide() {
  clearTimeout(timer);
  cancelAnimationFrame(frame);
  controller?.abort();
}
