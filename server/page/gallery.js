// Every preset and every family with a picture, drawn when it comes into view, two at a time.
import { call } from "./api.js";
import { drawRows, onTheme, ranksOf, tokensOf } from "./pixels.js";
import { change, store } from "./store.js";
import { magnitude, percent } from "./text.js";

const ROWS = 20;
const TOKENS = 320;
const AT_ONCE = 2;

const cards = new Map(); // element -> card
const queue = [];
let running = 0;
let controller = null;
let observer = null;

function addCard(list, name, text, recipe) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  const title = document.createElement("span");
  title.className = "name";
  title.textContent = name;
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${ROWS} sequences of ${name}`);
  const description = document.createElement("span");
  description.className = "text";
  description.textContent = text;
  const cost = document.createElement("span");
  cost.className = "cost";
  cost.textContent = "…";
  const share = document.createElement("span");
  share.className = "share";
  button.append(title, canvas, description, cost, share);
  button.addEventListener("click", () => {
    change({ text: recipe, first: "0" }, "gallery");
    location.hash = "editor";
  });
  item.append(button);
  list.append(item);
  cards.set(item, { name, text, recipe, canvas, cost, share, drawn: false, ranks: null });
  observer.observe(item);
}

async function draw(card, signal) {
  const body = { recipe: card.recipe, count: 4, tokens: TOKENS };
  try {
    for (const count of [4, ROWS]) {
      const preview = await call("preview", { ...body, count }, signal);
      const tokens = tokensOf(preview.tokens, preview.dtype);
      card.ranks = preview.rows.map((_, i) => ranksOf(tokens.subarray(i * preview.shown, (i + 1) * preview.shown)));
      drawRows(card.canvas, card.ranks);
      const rate = preview.tokens_per_second;
      card.cost.textContent = rate ? `${magnitude(rate)} tokens/s per core, ${preview.length} tokens each` : "";
    }
    const found = await call("statistics", { recipe: card.recipe, count: ROWS }, signal);
    const band = found.band_share === undefined ? "" : `, ${percent(found.band_share)} in the band`;
    card.share.textContent = `${percent(found.structured_share)} structured${band}`;
    card.drawn = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    card.drawn = card.ranks !== null;
    if (!card.drawn) card.cost.textContent = error.status === 504 ? "too expensive for a picture here" : error.message;
  }
}

function pump() {
  while (running < AT_ONCE && queue.length && controller) {
    const card = queue.shift();
    running += 1;
    draw(card, controller.signal).finally(() => {
      running -= 1;
      pump();
    });
  }
}

function watch() {
  observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const card = cards.get(entry.target);
        const at = queue.indexOf(card);
        if (entry.isIntersecting && !card.drawn && at < 0) queue.push(card);
        if (!entry.isIntersecting && at >= 0) queue.splice(at, 1);
      }
      pump();
    },
    { rootMargin: "200px" },
  );
}

function filter() {
  const words = document.getElementById("gallery-filter").value.toLowerCase().split(/\s+/);
  for (const [item, card] of cards) {
    const text = `${card.name} ${card.text}`.toLowerCase();
    item.hidden = !words.every((word) => text.includes(word));
  }
}

// A family by itself: a chain with every default.
const alone = (family) => `{
  "families": [{"${family}": {}}],
  "lanes": 8,
  "segment_sequences": 16
}
`;

export function begin() {
  watch();
  const presets = document.getElementById("gallery-presets");
  for (const preset of store.presets) addCard(presets, preset.name, preset.description, preset.recipe);
  const families = document.getElementById("gallery-families");
  for (const family of store.families) addCard(families, family.name, family.summary, alone(family.name));
  document.getElementById("gallery-filter").addEventListener("input", filter);
  onTheme(() => {
    for (const card of cards.values()) if (card.ranks) drawRows(card.canvas, card.ranks);
  });
}

export function show() {
  controller = new AbortController();
  for (const [item, card] of cards) {
    if (card.drawn) continue;
    observer.unobserve(item);
    observer.observe(item);
  }
}

export function hide() {
  controller.abort();
  controller = null;
  queue.length = 0;
}
