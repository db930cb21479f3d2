// The recipe as text, with the server's errors at the field, and what it makes.
import { call } from "./api.js";
import { buildKnobs } from "./knobs.js";
import { lineOf, placeOf } from "./places.js";
import { drawRows, onTheme, ranksOf, rowAt, tokensOf } from "./pixels.js";
import { command, python } from "./snippets.js";
import { showStatistics } from "./statistics.js";
import { change, onChange, store, streamOf } from "./store.js";
import { facts, magnitude, origin, seconds } from "./text.js";

const ROWS = 64;
const FIRST_ROWS = 8; // are shown at once, the others as soon as they are made
const TOKENS = 512;
const LINE_HEIGHT = 20;
const PAUSE = 20; // ms after a key before the preview follows
const STATISTICS_PAUSE = 250;

const element = (id) => document.getElementById(id);
let timer = 0;
let controller = null;
let rows = []; // of the preview
let ranks = [];
let description = null;
let wrongLine = 0;
let wrongText = "";
let picked = -1;
let visible = false;
let stale = true;

function showLines() {
  const area = element("recipe");
  const count = store.text.split("\n").length;
  const numbers = [];
  for (let line = 1; line <= count; line++) {
    const number = document.createElement("span");
    number.textContent = `${line}\n`;
    if (line === wrongLine) number.className = "wrong";
    numbers.push(number);
  }
  element("lines").replaceChildren(...numbers);
  element("lines").scrollTop = area.scrollTop;
  placeBubble();
}

function placeBubble() {
  const bubble = element("recipe-bubble");
  const top = 8 + (wrongLine - 1) * LINE_HEIGHT - element("recipe").scrollTop;
  bubble.hidden = !wrongLine || top < 0 || top > element("recipe").clientHeight - LINE_HEIGHT;
  bubble.style.top = `${top}px`;
  bubble.textContent = wrongText;
}

function showError(error) {
  wrongLine = 0;
  wrongText = "";
  if (error) {
    const place = error.field ? placeOf(store.text, error.field) : null;
    if (error.line) wrongLine = error.line;
    else if (place) wrongLine = lineOf(store.text, place.begin);
    const named = error.field ? error.message.indexOf(": ") : -1;
    wrongText = named > 0 ? error.message.slice(named + 2) : error.message;
  }
  const line = element("recipe-error");
  line.hidden = !error;
  line.textContent = error ? (wrongLine ? `Line ${wrongLine}: ${error.message}` : error.message) : "";
  element("recipe").setAttribute("aria-invalid", String(Boolean(error)));
  showLines();
}

function showPreview(preview) {
  const tokens = tokensOf(preview.tokens, preview.dtype);
  rows = preview.rows;
  ranks = rows.map((_, i) => ranksOf(tokens.subarray(i * preview.shown, (i + 1) * preview.shown)));
  const blank = new Uint8Array(preview.shown);
  const canvas = element("preview");
  drawRows(canvas, ranks.concat(new Array(ROWS - ranks.length).fill(blank)));
  canvas.classList.remove("stale");
  canvas.dataset.rows = rows.length;
  canvas.dataset.fingerprint = preview.fingerprint;
}

function showFacts(preview, taken) {
  const entries = [
    ["Tokens per second per core", preview.tokens_per_second ? magnitude(preview.tokens_per_second) : "not measured yet"],
    [`${preview.rows.length} sequences after`, seconds(taken)],
    ["Sequence", `${preview.length} tokens below ${preview.vocab_size}, ${preview.dtype}`],
  ];
  if (description) {
    entries.push(["FLOP per token", description.flops_per_token ? magnitude(description.flops_per_token) : "integer work only"]);
    entries.push(["Lanes × segment", `${description.lanes} × ${description.segment_sequences} sequences`]);
    for (const part of description.parts) entries.push([`Part ${part.name}`, `${(100 * part.share).toFixed(1)} %`]);
  }
  entries.push(["Fingerprint", preview.fingerprint, true]);
  facts(element("preview-facts"), entries);
}

const wait = (pause, signal) =>
  new Promise((resolve, reject) => {
    const id = setTimeout(resolve, pause);
    signal.addEventListener("abort", () => {
      clearTimeout(id);
      reject(new DOMException("given up", "AbortError"));
    });
  });

// Everything that follows from the recipe. What is in progress for an older one is given up.
async function refresh() {
  controller?.abort();
  controller = new AbortController();
  const { signal } = controller;
  const stream = streamOf();
  const begin = performance.now();
  const taken = () => (performance.now() - begin) / 1000;
  const range = { first: store.first.trim() || "0", tokens: TOKENS };
  stale = false;
  element("preview").classList.add("stale");
  try {
    const described = call("describe", stream, signal);
    described.catch(() => {});
    let preview = await call("preview", { ...stream, ...range, count: FIRST_ROWS }, signal);
    showError(null);
    showPreview(preview);
    const firstTaken = taken();
    description = await described;
    showFacts(preview, firstTaken);
    preview = await call("preview", { ...stream, ...range, count: ROWS }, signal);
    showPreview(preview);
    showFacts(preview, taken());
    document.documentElement.dataset.previewed = String(Number(document.documentElement.dataset.previewed ?? 0) + 1);
    await wait(STATISTICS_PAUSE, signal);
    const found = await call("statistics", { ...stream, first: range.first, count: ROWS }, signal);
    showStatistics(
      {
        facts: element("statistics-facts"),
        code: element("chart-code"),
        mutual: element("chart-mutual"),
        complexity: element("chart-complexity"),
      },
      found,
    );
  } catch (error) {
    if (error.name !== "AbortError") showError(error);
  }
}

function follow() {
  clearTimeout(timer);
  controller?.abort();
  stale = true;
  if (visible) timer = setTimeout(refresh, PAUSE);
}

function pick(row) {
  picked = Math.min(Math.max(row, 0), rows.length - 1);
  if (picked < 0) return;
  element("preview-row").textContent = `Index ${rows[picked].index}: made by ${origin(rows[picked])}. Enter or a click shows its chain.`;
}

function openChain() {
  if (picked < 0) return;
  change({ index: rows[picked].index }, "editor");
  location.hash = "chain";
}

function connectPreview() {
  const canvas = element("preview");
  canvas.addEventListener("pointermove", (event) => pick(rowAt(canvas, event, ROWS)));
  canvas.addEventListener("click", (event) => {
    pick(rowAt(canvas, event, ROWS));
    openChain();
  });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -ROWS, End: ROWS };
    if (event.key === "Enter") openChain();
    if (!(event.key in steps)) return;
    event.preventDefault();
    pick(picked + steps[event.key]);
  });
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers give the clipboard to https and localhost alone.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  element("copied").textContent = `${what} copied`;
}

function connectButtons() {
  const seed = () => store.seed.trim() || "0";
  const first = () => store.first.trim() || "0";
  element("copy-python").addEventListener("click", () => copy(python(store.text, seed(), first(), ROWS), "Python"));
  element("copy-command").addEventListener("click", () => copy(command(store.text, seed(), first(), ROWS), "Command line"));
  element("copy-json").addEventListener("click", () => copy(store.text, "JSON"));
  element("editor-resolve").addEventListener("click", async () => {
    try {
      change({ text: (await call("describe", streamOf())).recipe }, "resolve");
    } catch (error) {
      showError(error);
    }
  });
}

export function begin() {
  const area = element("recipe");
  const presets = element("editor-preset");
  element("knob-panel").open = matchMedia("(min-width: 60rem)").matches;
  presets.append(new Option("a preset …", ""), ...store.presets.map((preset) => new Option(preset.name, preset.name)));
  presets.addEventListener("change", () => {
    const found = store.presets.find((preset) => preset.name === presets.value);
    if (found) change({ text: found.recipe }, "preset");
    presets.value = "";
  });
  area.addEventListener("input", () => change({ text: area.value }, "typing"));
  area.addEventListener("scroll", () => {
    element("lines").scrollTop = area.scrollTop;
    placeBubble();
  });
  for (const field of ["seed", "first"]) {
    element(`editor-${field}`).addEventListener("input", (event) => change({ [field]: event.target.value }, "number"));
  }
  onChange((source) => {
    if (source === "editor" || source === "chain") return;
    if (source !== "typing") area.value = store.text;
    if (source !== "number") element("editor-first").value = store.first;
    if (source !== "knob") buildKnobs(element("knobs"), store.text, (text) => change({ text }, "knob"));
    showLines();
    follow();
  });
  connectPreview();
  connectButtons();
  onTheme(() => {
    if (ranks.length) drawRows(element("preview"), ranks);
  });
  change({}, "begin");
}

export function show() {
  visible = true;
  showLines();
  if (stale) refresh();
}

export function hide() {
  visible = false;
  clearTimeout(timer);
  if (controller && !controller.signal.aborted) controller.abort();
  stale = true;
}
