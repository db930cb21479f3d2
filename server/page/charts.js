// Small charts as SVG.

const SPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 170;
const LEFT = 34;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 22;

function node(name, attributes, text = "") {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== "") made.textContent = text;
  return made;
}

let width = 360; // of the chart that is drawn

const x = (share) => LEFT + share * (width - LEFT - RIGHT);
const y = (share) => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
const short = (value) => String(Number(value.toPrecision(2)));

function frame(svg, high, xLabels) {
  width = svg.clientWidth || 360;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(node("line", { class: "axis", x1: x(0), x2: x(1), y1: y(share), y2: y(share) }));
    parts.push(node("text", { x: LEFT - 5, y: y(share) + 4, "text-anchor": "end" }, short(share * high)));
  }
  for (const [share, text] of xLabels) {
    parts.push(node("text", { x: x(share), y: HEIGHT - 6, "text-anchor": share > 0.9 ? "end" : share < 0.1 ? "start" : "middle" }, text));
  }
  svg.replaceChildren(...parts);
}

const path = (points) => points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");

// The highest values that charts of several streams must show, so that all have the same scale. Charts of one stream
// take its own.
export function scaleOf(all) {
  return {
    code: Math.max(1, ...all.flatMap((found) => found.code_bits.flat())),
    mutual: Math.max(0.1, ...all.flatMap((found) => found.mutual_information)),
    complexity: Math.max(1, ...all.map((found) => found.complexity.reduce((most, value) => Math.max(most, value), 0))),
  };
}

// One line per order, and their names above.
export function drawCode(svg, curves, length, most) {
  const high = 1.15 * most;
  frame(svg, high, [[0, "0"], [0.5, String(Math.round(length / 2))], [1, `${length} tokens`]]);
  curves.forEach((curve, order) => {
    const points = curve.map((bits, i) => [x((i + 0.5) / curve.length), y(bits / high)]);
    svg.append(node("path", { class: `plot order-${order}`, d: path(points) }));
    const left = x(0.12 + 0.225 * order);
    svg.append(node("path", { class: `plot order-${order}`, d: path([[left, TOP + 4], [left + 18, TOP + 4]]) }));
    svg.append(node("text", { class: `order-${order}`, x: left + 22, y: TOP + 8 }, `${order}`));
  });
}

export function drawMutual(svg, distances, bits, high) {
  const last = Math.log2(distances.at(-1) ?? 1) || 1;
  const labels = [1, 4, 16, 64, 256, 1024, 4096].filter((d) => d <= distances.at(-1)).map((d) => [Math.log2(d) / last, String(d)]);
  frame(svg, high, labels);
  const points = bits.map((value, i) => [x(Math.log2(distances[i]) / last), y(value / high)]);
  svg.append(node("path", { class: "plot order-0", d: path(points) }));
}

// A histogram over the recipe's band.
export function drawComplexity(svg, values, bands, most) {
  const bins = 24;
  const top = most * 1.0001;
  const counts = new Array(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor((value / top) * bins))] += 1;
  const high = Math.max(1, ...counts);
  frame(svg, high, [[0, "0"], [0.5 / top, "0.5"], [1 / top, "1 (noise)"]]);
  for (const { low, high: end } of bands.slice(0, 1)) {
    const from = x(Math.min(low, top) / top);
    const to = x(Math.min(end, top) / top);
    svg.append(node("rect", { class: "band", x: from, y: TOP, width: Math.max(0, to - from), height: HEIGHT - TOP - BOTTOM }));
  }
  counts.forEach((count, i) => {
    const begin = x(i / bins);
    svg.append(node("rect", { class: "bar", x: begin + 0.5, width: x(1 / bins) - x(0) - 1, y: y(count / high), height: y(0) - y(count / high) }));
  });
}
