// The views, one at a time, by the address's fragment.
import { call, setToken } from "./api.js";
import { change, store } from "./store.js";
import { drawLegend, onTheme } from "./pixels.js";
import * as chain from "./chain.js";
import * as editor from "./editor.js";
import * as gallery from "./gallery.js";
import * as live from "./live.js";

const views = { live, gallery, editor, chain };
let shown = "";

function show() {
  const name = location.hash.slice(1);
  const next = name in views ? name : "live";
  if (next === shown) return;
  if (shown) views[shown].hide();
  shown = next;
  for (const view of Object.keys(views)) document.getElementById(`view-${view}`).hidden = view !== shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
  views[shown].show();
}

function trouble(message) {
  const line = document.getElementById("trouble");
  line.textContent = message;
  line.hidden = !message;
}

async function begin() {
  try {
    const list = await call("presets");
    const first = list.presets.find((preset) => preset.name === "lstm") ?? list.presets[0];
    change({ presets: list.presets, families: list.families, text: first.recipe }, "begin");
    document.getElementById("engine").textContent = `Engine version ${list.engine_version}`;
    trouble("");
    document.getElementById("token-form").hidden = true;
    for (const view of Object.values(views)) view.begin();
    addEventListener("hashchange", show);
    document.documentElement.dataset.ready = "true";
    show();
  } catch (error) {
    if (error.status !== 401) trouble(error.message);
  }
}

document.addEventListener("token-needed", () => {
  document.getElementById("token-form").hidden = false;
  document.getElementById("token").focus();
});
document.getElementById("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(document.getElementById("token").value.trim());
  if (store.presets.length) location.reload();
  else begin();
});
const legend = document.querySelector(".legend");
drawLegend(legend);
onTheme(() => drawLegend(legend));
begin();
