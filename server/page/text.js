// Numbers for people.

export function magnitude(value) {
  for (const [scale, unit] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (value >= scale) return (value / scale).toPrecision(3) + unit;
  }
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;

export const bytes = (value) => `${magnitude(value)}B`;

export const seconds = (value) => (value < 1 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(1)} s`);

// "lstm at depth 3, part networks"
export function origin(row) {
  const depth = row.depth > 0 ? `${row.family}, depth ${row.depth}` : "a fresh row of noise or constants";
  return row.part ? `${depth}, part ${row.part}` : depth;
}

// Fills a list of terms and values; those with a third, true, have a line of their own.
export function facts(list, entries) {
  list.replaceChildren(
    ...entries.map(([name, value, wide]) => {
      const item = document.createElement("div");
      if (wide) item.className = "wide";
      const term = document.createElement("dt");
      term.textContent = name;
      const description = document.createElement("dd");
      description.textContent = value;
      item.append(term, description);
      return item;
    }),
  );
}
