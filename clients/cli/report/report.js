// A report of `iterand inspect`: the streams that the page has in it, alone or side by side.
import { scaleOf } from "./charts.js";
import { drawLegend, drawRows, onTheme, ranksOf, rowAt, tokensOf } from "./pixels.js";
import { bitsOf, periodOf, showStatistics } from "./statistics.js";
import { origin, percent } from "./text.js";

const { streams } = JSON.parse(document.getElementById("report").textContent);
const scale = scaleOf(streams.map((stream) => stream.statistics));

const median = (values) => [...values].sort((a, b) => a - b)[Math.round((values.length - 1) / 2)];

const COLUMNS = [
  ["Stream", (stream) => stream.name],
  ["Sequences", (stream) => stream.statistics.sequences],
  ["Tokens each", (stream) => stream.statistics.length],
  ["Vocabulary", (stream) => stream.vocab_size],
  ...[0, 1, 2, 3].map((order) => [`Bits, order ${order}`, (stream) => bitsOf(stream.statistics)[order]]),
  ["Structured", (stream) => percent(stream.statistics.structured_share)],
  ["In the band", ({ statistics }) => (statistics.band_share === undefined ? "–" : percent(statistics.band_share))],
  ["Complexity, median", (stream) => median(stream.statistics.complexity).toFixed(2)],
  ["Distinct tokens, median", (stream) => Math.round(stream.statistics.median_distinct_tokens)],
  ["In repeats of 8", (stream) => percent(stream.statistics.repeat_share)],
  ["Periodic", (stream) => periodOf(stream.statistics)],
  ["Constant", (stream) => percent(stream.statistics.constant_share)],
  ["Duplicates", (stream) => percent(stream.statistics.duplicate_share)],
];

function cell(name, text, scope) {
  const made = document.createElement(name);
  if (scope) made.scope = scope;
  made.textContent = text;
  return made;
}

function line(cells) {
  const row = document.createElement("tr");
  row.append(...cells);
  return row;
}

function buildTable(table) {
  const head = document.createElement("thead");
  head.append(line(COLUMNS.map(([title]) => cell("th", title, "col"))));
  const body = document.createElement("tbody");
  for (const stream of streams) {
    body.append(line(COLUMNS.map(([, value], i) => (i ? cell("td", value(stream)) : cell("th", value(stream), "row")))));
  }
  table.replaceChildren(head, body);
}

// A line of the picture that the pointer or the arrow keys choose says where it came from.
function connectPicture(canvas, text, rows) {
  let picked = -1;
  const pick = (row) => {
    picked = Math.min(Math.max(row, 0), rows.length - 1);
    const { index, family, part } = rows[picked];
    const made = family ? `: made by ${origin(rows[picked])}` : part ? `: part ${part}` : "";
    text.textContent = `Index ${index}${made}`;
  };
  canvas.addEventListener("pointermove", (event) => pick(rowAt(canvas, event, rows.length)));
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -rows.length, End: rows.length };
    if (!(event.key in steps)) return;
    event.preventDefault();
    pick(picked + steps[event.key]);
  });
}

// Adds a stream to the page; returns what draws it, at first and whenever the page's width or colours change.
function addStream(list, stream) {
  const section = document.getElementById("stream").content.firstElementChild.cloneNode(true);
  const find = (selector) => section.querySelector(selector);
  find("h2").textContent = stream.name;
  find("h2").hidden = streams.length === 1; // the title of the page is its name
  find(".text").textContent = stream.description;
  find(".line").textContent = stream.fingerprint
    ? `${stream.line}. Fingerprint ${stream.fingerprint}, seed ${stream.seed}, engine version ${stream.engine_version}.`
    : `${stream.line}.`;
  const canvas = find(".picture");
  canvas.setAttribute("aria-label", `${stream.rows.length} sequences of ${stream.name}`);
  for (const chart of section.querySelectorAll("figure")) {
    chart.querySelector("svg").setAttribute("aria-label", `${chart.querySelector("figcaption").textContent}, ${stream.name}`);
  }
  find(".row-text").textContent = "Point at a line, or use the arrow keys.";
  connectPicture(canvas, find(".row-text"), stream.rows);
  list.append(section);
  const tokens = tokensOf(stream.tokens, stream.dtype);
  const ranks = stream.rows.map((_, i) => ranksOf(tokens.subarray(i * stream.shown, (i + 1) * stream.shown)));
  const place = {
    facts: find(".facts"),
    code: find(".chart-code"),
    mutual: find(".chart-mutual"),
    complexity: find(".chart-complexity"),
  };
  return () => {
    drawRows(canvas, ranks, streams.length > 1 ? 3 : 5);
    showStatistics(place, stream.statistics, scale);
  };
}

const list = document.getElementById("streams");
if (streams.length > 1) {
  list.classList.add("compared");
  document.getElementById("comparison").hidden = false;
  buildTable(document.getElementById("table"));
}
const drawings = streams.map((stream) => addStream(list, stream));
const draw = () => {
  drawLegend(document.querySelector(".legend"));
  for (const one of drawings) one();
};
draw();
onTheme(draw);
addEventListener("resize", draw);
document.documentElement.dataset.ready = "true";
