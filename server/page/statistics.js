// Statistics of sequences: beside the editor's preview, and in the reports of `iterand inspect`.
import { drawCode, drawComplexity, drawMutual, scaleOf } from "./charts.js";
import { facts, percent } from "./text.js";

export const bitsOf = (found) => found.markov_bits.map((value) => value.toFixed(2));

export const periodOf = (found) =>
  found.periodic_share ? `${percent(found.periodic_share)}, period ${found.median_period}` : "0 %";

// "0.03 to 0.9", the different ones of several parts in a row, or "" without a band.
function bandOf(found) {
  return [...new Set(found.bands.map(({ low, high }) => `${low} to ${high}`))].join(", ");
}

function entriesOf(found) {
  const entries = [
    ["Sequences measured", found.sequences],
    ["Bits per token, orders 0 to 3", bitsOf(found).join(" · ")],
    ["Structured (zlib)", percent(found.structured_share)],
    ["Median distinct tokens", Math.round(found.median_distinct_tokens)],
    ["Tokens in repeats of 8", percent(found.repeat_share)],
    ["Periodic", periodOf(found)],
    ["Constant", percent(found.constant_share)],
    ["Duplicates", percent(found.duplicate_share)],
  ];
  if (found.band_share !== undefined) entries.push([`In the band ${bandOf(found)}`, percent(found.band_share)]);
  for (const part of found.parts) entries.push([`Part ${part.name}`, `${part.sequences} sequences, ${part.mean_entropy.toFixed(1)} bits`]);
  return entries;
}

// Fills `place`: a list of facts, and three charts.
export function showStatistics(place, found, scale = scaleOf([found])) {
  facts(place.facts, entriesOf(found));
  drawCode(place.code, found.code_bits, found.length, scale.code);
  drawMutual(place.mutual, found.distances, found.mutual_information, scale.mutual);
  drawComplexity(place.complexity, found.complexity, found.bands, scale.complexity);
}
