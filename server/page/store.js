// The recipe that the editor and the chain share.

const FALLBACK = '{"families": [{"lstm": {}}]}\n';

export const store = {
  text: FALLBACK,
  seed: "0",
  first: "0",
  presets: [],
  families: [],
};

const listeners = [];

export function onChange(listener) {
  listeners.push(listener);
}

export function change(values, source) {
  Object.assign(store, values);
  for (const listener of listeners) listener(source);
}

// A stream as the server's paths take it.
export function streamOf() {
  return { recipe: store.text, seed: store.seed.trim() || "0" };
}
