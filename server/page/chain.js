// The way from noise to one sequence: the row at every depth, and the program of each step.
import { call } from "./api.js";
import { drawRows, onTheme, ranksOf, rowAt, tokensOf } from "./pixels.js";
import { change, onChange, store, streamOf } from "./store.js";

const element = (id) => document.getElementById(id);
const ROW_HEIGHT = 9; // of canvas pixels
let controller = null;
let found = null;
let depths = []; // {title, symbols, ranks}: noise, and the row after each step
let visible = false;

const indexOf = () => String(store.index ?? "0").trim() || "0";

function stages(explanation) {
  const rows = [];
  explanation.steps.forEach((step, i) => {
    // Only the first step may read nothing.
    const title = i === 0 ? step.input : `after ${explanation.steps[i - 1].family}`;
    rows.push({ title, symbols: step.read ? tokensOf(step.read, "uint16") : new Uint16Array(0) });
  });
  const last = explanation.steps.at(-1);
  rows.push({ title: last ? `after ${last.family}` : "a fresh row", symbols: tokensOf(explanation.made, "uint16") });
  for (const row of rows) row.ranks = ranksOf(row.symbols);
  return rows;
}

function drawDepths() {
  const at = Number(element("chain-depth").value);
  const width = Math.max(1, ...depths.map((row) => row.ranks.length));
  const canvas = element("chain-rows");
  const lines = depths.map((row) => (row.ranks.length ? row.ranks : new Uint8Array(width)));
  drawRows(canvas, lines, ROW_HEIGHT, 3);
  canvas.style.height = `${Math.min(480, depths.length * 36)}px`;
  // The other rows are pale.
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ground");
  context.globalAlpha = 0.6;
  depths.forEach((_, depth) => {
    if (depth !== at) context.fillRect(0, depth * (ROW_HEIGHT + 3), canvas.width, ROW_HEIGHT);
  });
}

// The rows before and after a step, and below them the places where they differ.
function drawStep(before, after) {
  const canvas = element("step-rows");
  const rows = before.ranks.length ? [before.ranks, after.ranks] : [after.ranks];
  drawRows(canvas, [...rows, new Uint8Array(after.ranks.length)], ROW_HEIGHT, 3);
  const context = canvas.getContext("2d");
  const y = rows.length * (ROW_HEIGHT + 3);
  context.clearRect(0, y, canvas.width, ROW_HEIGHT);
  let different = 0;
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--order-1");
  for (let t = 0; t < after.symbols.length && before.ranks.length; t++) {
    if (before.symbols[t] === after.symbols[t]) continue;
    different += 1;
    context.fillRect(t, y, 1, ROW_HEIGHT);
  }
  element("step-difference").textContent = before.ranks.length
    ? `Before, after, and in orange the ${different} of ${after.symbols.length} symbols that differ.`
    : "The program reads no row: it begins the chain.";
}

function showDepth() {
  const at = Number(element("chain-depth").value);
  const last = depths.length - 1;
  const part = found.part ? `, part ${found.part}` : "";
  element("chain-at").textContent = `${at} of ${last}`;
  drawDepths();
  const step = found.steps[at - 1];
  element("step-title").textContent = step ? `Step ${at}: ${step.family}` : `The beginning: ${depths[0].title}`;
  element("step-program").hidden = !step?.program;
  element("step-program").textContent = step?.program ?? "";
  element("step-rows").hidden = !step;
  element("step-difference").textContent = "";
  if (!step) {
    element("step-input").textContent = `Index ${found.index}: lane ${found.lane}, segment ${found.segment}, place ${found.offset}${part}.`;
    return;
  }
  const prompt = step.prompt_length ? `, with a prompt of ${step.prompt_length} symbols from offset ${step.prompt_offset} of another row` : "";
  const served = at === last && found.relabelled ? " The stream then gives every symbol a random token." : "";
  element("step-input").textContent = `Round ${step.round}, row ${step.row}, reads ${step.input}${prompt}.${served}`;
  drawStep(depths[at - 1], depths[at]);
}

async function refresh() {
  controller?.abort();
  controller = new AbortController();
  element("chain-recipe").textContent = `The editor's recipe, seed ${store.seed}`;
  element("chain-index").value = indexOf();
  try {
    found = await call("explain", { ...streamOf(), index: indexOf() }, controller.signal);
    depths = stages(found);
    element("chain-error").hidden = true;
    element("chain-body").hidden = false;
    element("chain-depth").max = depths.length - 1;
    element("chain-depth").value = depths.length - 1;
    showDepth();
  } catch (error) {
    if (error.name === "AbortError") return;
    element("chain-error").textContent = error.message;
    element("chain-error").hidden = false;
    element("chain-body").hidden = true;
  }
}

function move(by) {
  const next = BigInt(/^\d+$/.test(indexOf()) ? indexOf() : "0") + BigInt(by);
  if (next < 0n) return;
  change({ index: String(next) }, "chain");
  refresh();
}

export function begin() {
  element("chain-depth").addEventListener("input", showDepth);
  element("chain-previous").addEventListener("click", () => move(-1));
  element("chain-next").addEventListener("click", () => move(1));
  element("chain-index").addEventListener("change", (event) => {
    change({ index: event.target.value }, "chain");
    refresh();
  });
  element("chain-rows").addEventListener("click", (event) => {
    element("chain-depth").value = rowAt(element("chain-rows"), event, depths.length);
    showDepth();
  });
  onTheme(() => {
    if (visible && found) showDepth();
  });
  onChange((source) => {
    if (source === "gallery" || source === "preset") store.index = store.first;
  });
}

export function show() {
  visible = true;
  refresh();
}

export function hide() {
  visible = false;
  controller?.abort();
}
