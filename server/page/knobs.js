// A slider for every number of a recipe. Both ends of a distribution are sliders too.
import { placesOf } from "./places.js";

const STEPS = 400;
const SKIPPED = /(^|\.)(at)$|points\[/;

// What a slider reaches: a factor of 16 both ways, or 0 to 1 for a share.
function windowOf(place, text) {
  const value = place.value;
  const whole = Number.isInteger(value) && !/[.eE]/.test(text.slice(place.begin, place.end));
  if (/share|probability|proceed|dropout|sparsity/.test(place.path) && value >= 0 && value <= 1) {
    return { low: 0, high: 1, whole: false, log: false };
  }
  if (value > 0) return { low: whole ? Math.max(1, Math.floor(value / 16)) : value / 16, high: value * 16, whole, log: true };
  if (value === 0) return { low: 0, high: whole ? 16 : 1, whole, log: false };
  return { low: 16 * value, high: 0, whole, log: false };
}

function valueAt(range, position) {
  const share = position / STEPS;
  const value = range.log ? range.low * (range.high / range.low) ** share : range.low + share * (range.high - range.low);
  return range.whole ? Math.round(value) : Number(value.toPrecision(3));
}

function positionOf(range, value) {
  const share = range.log ? Math.log(value / range.low) / Math.log(range.high / range.low) : (value - range.low) / (range.high - range.low);
  return Math.round(STEPS * share);
}

function group(path) {
  return path.replace(/(^|\.)[^.]+$/, "").replace(/\.(uniform|log_uniform|geometric|choice).*$/, "") || "the stream";
}

// Rebuilds the sliders of a text. `edit(text)` is called with the text that a moved slider makes.
export function buildKnobs(panel, text, edit) {
  let places;
  try {
    JSON.parse(text);
    places = placesOf(text).filter((place) => typeof place.value === "number" && !SKIPPED.test(place.path));
  } catch {
    return; // the sliders of the last valid text stay
  }
  const children = [];
  let heading = "";
  let current = text;
  for (const place of places.slice(0, 80)) {
    if (group(place.path) !== heading) {
      heading = group(place.path);
      const title = document.createElement("h3");
      title.textContent = heading;
      children.push(title);
    }
    const range = windowOf(place, text);
    const id = `knob-${children.length}`;
    const label = document.createElement("label");
    label.htmlFor = id;
    label.textContent = heading === "the stream" ? place.path : place.path.slice(heading.length + 1) || place.path;
    const slider = document.createElement("input");
    slider.type = "range";
    slider.id = id;
    slider.min = 0;
    slider.max = STEPS;
    slider.value = positionOf(range, place.value);
    slider.dataset.path = place.path;
    const output = document.createElement("output");
    output.htmlFor = id;
    output.textContent = place.value;
    slider.setAttribute("aria-valuetext", place.value);
    slider.addEventListener("input", () => {
      const value = String(valueAt(range, Number(slider.value)));
      output.textContent = value;
      slider.setAttribute("aria-valuetext", value);
      const now = placesOf(current).find((other) => other.path === place.path);
      current = current.slice(0, now.begin) + value + current.slice(now.end);
      edit(current);
    });
    children.push(label, slider, output);
  }
  panel.replaceChildren(...children);
}
