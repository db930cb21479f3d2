// The statistics beside the preview.
import { drawCode, drawComplexity, drawMutual } from "./charts.js";
import { facts, percent } from "./text.js";

const element = (id) => document.getElementById(id);

export function showStatistics(found) {
  const bits = found.markov_bits.map((value) => value.toFixed(2));
  const entries = [
    ["Sequences measured", found.sequences],
    ["Bits per token, orders 0 to 3", bits.join(" · ")],
    ["Structured (zlib)", percent(found.structured_share)],
    ["Median distinct tokens", Math.round(found.median_distinct_tokens)],
    ["Tokens in repeats of 8", percent(found.repeat_share)],
    ["Periodic", found.periodic_share ? `${percent(found.periodic_share)}, period ${found.median_period}` : "0 %"],
    ["Constant", percent(found.constant_share)],
    ["Duplicates", percent(found.duplicate_share)],
  ];
  const band = found.bands[0];
  if (band) {
    const inside = found.complexity.filter((value) => value >= band.low && value <= band.high).length;
    entries.push([`In the band${band.part ? ` of ${band.part}` : ""}`, percent(inside / found.complexity.length)]);
  }
  for (const part of found.parts) entries.push([`Part ${part.name}`, `${part.sequences} sequences, ${part.mean_entropy.toFixed(1)} bits`]);
  facts(element("statistics-facts"), entries);
  drawCode(element("chart-code"), found.code_bits, found.length);
  drawMutual(element("chart-mutual"), found.distances, found.mutual_information);
  drawComplexity(element("chart-complexity"), found.complexity, found.bands);
}
