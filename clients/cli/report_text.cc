#include "clients/cli/report_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/cells.h"
#include "clients/cli/formats.h"
#include "common/printable.h"

namespace iterand::cli {
namespace {

constexpr std::size_t kRowsAlone = 16;      // sequences shown of one stream,
constexpr std::size_t kRowsCompared = 4;    // and of each of several; even, since two share a line
constexpr std::size_t kPlainColumns = 100;  // of a sequence in characters
constexpr std::size_t kMostDistances = 16;

std::string Percent(double share) { return absl::StrFormat("%.1f %%", 100 * share); }

// The complexity below which a share q of the sequences is.
double ComplexityQuantile(const Inspection& inspection, double q) {
  std::vector<float> sorted = inspection.structure.complexity;
  if (sorted.empty()) return 0;
  std::ranges::sort(sorted);
  return sorted[static_cast<std::size_t>(std::lround(q * static_cast<double>(sorted.size() - 1)))];
}

// The beginnings of some sequences, one per row.
void AppendRows(const Inspected& inspected, std::size_t most, const Terminal& terminal, std::string& out) {
  const std::size_t rows = std::min(most, inspected.rows.size());
  const auto row = [&](std::size_t i) {
    return std::span(inspected.picture).subspan(i * inspected.shown, inspected.shown);
  };
  if (terminal.colours == ColourDepth::kNone) {
    for (std::size_t i = 0; i < rows; ++i) {
      const FrequencyRanks found = RanksOf(row(i));
      for (std::size_t t = 0; t < std::min(kPlainColumns, inspected.shown); ++t) out += GlyphOf(found.ranks[t]);
      out += '\n';
    }
    return;
  }
  Terminal strip = terminal;
  strip.columns = std::min(terminal.columns, static_cast<int>(inspected.shown));
  const auto columns = static_cast<std::size_t>(strip.columns);
  // Of two rows of cells in a line of characters, the first sequence is the upper one.
  const std::size_t stacked = terminal.unicode ? 2 : 1;
  for (std::size_t first = 0; first < rows; first += stacked) {
    std::vector<std::uint32_t> cells;
    for (std::size_t i = first; i < std::min(rows, first + stacked); ++i) {
      const FrequencyRanks found = RanksOf(row(i));
      cells.insert(cells.end(), found.ranks.begin(), found.ranks.begin() + static_cast<std::ptrdiff_t>(columns));
    }
    if (cells.size() == columns) strip.unicode = false;  // an odd one at the end
    AppendCells(cells, strip, out);
  }
}

void AppendLine(const std::string& label, const std::string& value, std::string& out) {
  absl::StrAppend(&out, absl::StrFormat("  %-30s %s\n", label, value));
}

// "0.03 to 0.9".
std::string BandText(const InspectedBand& band) { return absl::StrFormat("%g to %g", band.low, band.high); }

// The different bands of a recipe's parts, each with " of PART, PART" unless the recipe is not a mixture.
std::vector<std::pair<InspectedBand, std::string>> BandsOf(const Inspection& inspection) {
  std::vector<std::pair<InspectedBand, std::string>> bands;
  for (const InspectedBand& band : inspection.bands) {
    const auto same = std::ranges::find_if(
        bands, [&](const auto& one) { return one.first.low == band.low && one.first.high == band.high; });
    const std::string part = Printable(band.part);
    if (same == bands.end()) {
      bands.emplace_back(band, part.empty() ? "" : " of " + part);
    } else {
      absl::StrAppend(&same->second, ", ", part);
    }
  }
  return bands;
}

void AppendSummary(const Inspected& inspected, std::string& out) {
  const StreamStatistics& s = inspected.inspection.statistics;
  const StructureProfile& p = inspected.inspection.structure;
  const auto& q = s.entropy_quantiles;
  const auto& m = s.markov_bits;
  AppendLine("sequences", absl::StrCat(s.sequences, " from index ", inspected.first_index), out);
  AppendLine("bits per token, orders 0 to 3",
             absl::StrFormat("%.2f %.2f %.2f %.2f, over the second halves", m[0], m[1], m[2], m[3]), out);
  AppendLine("order-0 entropy, bits",
             absl::StrFormat("%.2f %.2f %.2f %.2f %.2f at 5, 25, 50, 75, 95 %%", q[0], q[1], q[2], q[3], q[4]), out);
  AppendLine("structured (zlib 0.06 to 0.9)", Percent(s.structured_share), out);
  if (inspected.inspection.band_share) {
    std::string bands;
    for (const auto& [band, of_parts] : BandsOf(inspected.inspection)) {
      absl::StrAppend(&bands, ", ", BandText(band), of_parts);
    }
    AppendLine("in the band", Percent(*inspected.inspection.band_share) + bands, out);
  }
  AppendLine("distinct tokens, median", absl::StrFormat("%.0f", s.median_distinct_tokens), out);
  AppendLine("tokens in repeats of 8", Percent(p.repeat_share), out);
  AppendLine("periodic",
             p.periodic_share > 0 ? absl::StrFormat("%s, median period %g", Percent(p.periodic_share), p.median_period)
                                  : Percent(0),
             out);
  AppendLine("constant", Percent(s.constant_share), out);
  AppendLine("entropy above 7 bits", Percent(s.high_entropy_share), out);
  AppendLine("duplicates", Percent(s.duplicate_share), out);
  for (std::size_t i = 0; i < inspected.inspection.parts.size(); ++i) {
    const PartStatistics part = i < s.parts.size() ? s.parts[i] : PartStatistics();
    AppendLine(absl::StrCat("part ", Printable(inspected.inspection.parts[i])),
               absl::StrFormat("%d sequences, %s structured, %.2f bits of entropy", part.sequences,
                               Percent(part.structured_share), part.mean_entropy),
               out);
  }
}

void AppendCurves(const Inspection& inspection, const Terminal& terminal, std::string& out) {
  const StructureProfile& p = inspection.structure;
  absl::StrAppend(&out, "\n", Bold("Bits per token by sixteenth of the sequence", terminal), "\n");
  for (std::size_t order = 0; order < p.code_bits.size(); ++order) {
    absl::StrAppend(&out, "  order ", order, " ");
    for (const double bits : p.code_bits[order]) absl::StrAppend(&out, absl::StrFormat(" %5.2f", bits));
    out += '\n';
  }
  absl::StrAppend(&out, "\n", Bold("Mutual information in bits by distance", terminal), "\n");
  std::string distances = "  distance";
  std::string bits = "  bits    ";
  for (std::size_t i = 0; i < p.distances.size(); ++i) {
    const auto distance = static_cast<std::uint32_t>(p.distances[i]);
    // Of many, the powers of two alone.
    if (p.distances.size() > kMostDistances && (distance & (distance - 1)) != 0) continue;
    absl::StrAppend(&distances, absl::StrFormat(" %5d", distance));
    absl::StrAppend(&bits, absl::StrFormat(" %5.2f", p.mutual_information[i]));
  }
  absl::StrAppend(&out, distances, "\n", bits, "\n");
}

// A histogram, with a line below it for each band.
void AppendComplexity(const Inspection& inspection, const Terminal& terminal, std::string& out) {
  constexpr int kBins = 11;  // of a tenth, the last one without an end
  std::array<int, kBins> counts{};
  const std::vector<float>& values = inspection.structure.complexity;
  for (const float value : values)
    ++counts[static_cast<std::size_t>(std::clamp(static_cast<int>(10 * value), 0, kBins - 1))];
  absl::StrAppend(&out, "\n", Bold("Complexity of the sequences, in %", terminal), "\n  below   ");
  for (int bin = 1; bin < kBins; ++bin) absl::StrAppend(&out, absl::StrFormat(" %5.1f", 0.1 * bin));
  out += "  more\n          ";
  for (const int count : counts) {
    absl::StrAppend(&out,
                    absl::StrFormat(" %5.1f", values.empty() ? 0 : 100.0 * count / static_cast<double>(values.size())));
  }
  out += '\n';
  for (const auto& [band, of_parts] : BandsOf(inspection)) {
    std::string line = "  band    ";
    for (int bin = 0; bin < kBins; ++bin) {
      const bool in_band = band.low < 0.1 * (bin + 1) && (band.high > 0.1 * bin || bin == 0);
      line += in_band ? " =====" : "      ";
    }
    absl::StrAppend(&out, line, "  ", BandText(band), of_parts, "\n");
  }
}

void AppendHead(const Inspected& inspected, const Terminal& terminal, std::string& out) {
  absl::StrAppend(&out, Bold(Printable(inspected.name), terminal));
  if (!inspected.description.empty()) absl::StrAppend(&out, ": ", Printable(inspected.description));
  absl::StrAppend(&out, "\n", inspected.line, "\n");
  if (!inspected.fingerprint.empty()) {
    absl::StrAppend(&out, "fingerprint ", Printable(inspected.fingerprint), ", seed ", inspected.seed,
                    ", engine version ", inspected.engine_version, "\n");
  }
}

// One line per stream.
void AppendTable(std::span<const Inspected> all, const Terminal& terminal, std::string& out) {
  std::size_t width = 6;
  for (const Inspected& one : all) width = std::max(width, Printable(one.name).size());
  const int columns = static_cast<int>(width);
  absl::StrAppend(&out,
                  Bold(absl::StrFormat("%-*s %9s %5s %5s %5s %5s %10s %7s %8s %7s %8s %8s %10s %10s", columns, "stream",
                                       "sequences", "bits0", "bits1", "bits2", "bits3", "structured", "in band",
                                       "distinct", "repeats", "periodic", "constant", "duplicates", "complexity"),
                       terminal),
                  "\n");
  for (const Inspected& one : all) {
    const Inspection& found = one.inspection;
    const StreamStatistics& s = found.statistics;
    absl::StrAppend(
        &out, absl::StrFormat("%-*s %9d %5.2f %5.2f %5.2f %5.2f %10s %7s %8.0f %7s %8s %8s %10s %10.2f\n", columns,
                              Printable(one.name), s.sequences, s.markov_bits[0], s.markov_bits[1], s.markov_bits[2],
                              s.markov_bits[3], Percent(s.structured_share),
                              found.band_share ? Percent(*found.band_share) : "-", s.median_distinct_tokens,
                              Percent(found.structure.repeat_share), Percent(found.structure.periodic_share),
                              Percent(s.constant_share), Percent(s.duplicate_share), ComplexityQuantile(found, 0.5)));
  }
}

}  // namespace

std::string TextReport(std::span<const Inspected> all, const Terminal& terminal) {
  std::string text;
  if (all.size() == 1) {
    const Inspected& inspected = all.front();
    AppendHead(inspected, terminal, text);
    text += '\n';
    AppendRows(inspected, kRowsAlone, terminal, text);
    text += '\n';
    AppendSummary(inspected, text);
    AppendCurves(inspected.inspection, terminal, text);
    AppendComplexity(inspected.inspection, terminal, text);
    return text;
  }
  AppendTable(all, terminal, text);
  for (const Inspected& inspected : all) {
    text += '\n';
    AppendHead(inspected, terminal, text);
    AppendRows(inspected, kRowsCompared, terminal, text);
  }
  return text;
}

}  // namespace iterand::cli
