#include "clients/cli/cells.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <unordered_map>

#include "absl/strings/str_cat.h"

namespace iterand::cli {
namespace {

constexpr std::uint32_t kLastRank = 255;
constexpr std::string_view kGlyphs = ".abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
constexpr char kRareGlyph = '#';

// As in server/page/pixels.js.
constexpr std::array<std::array<int, 3>, 11> kMagma = {{{0, 0, 4},
                                                        {20, 14, 54},
                                                        {59, 15, 112},
                                                        {100, 26, 128},
                                                        {140, 41, 129},
                                                        {183, 55, 121},
                                                        {222, 73, 104},
                                                        {247, 112, 92},
                                                        {254, 159, 109},
                                                        {254, 207, 146},
                                                        {252, 253, 191}}};

// The nearest of xterm's 256 colours, of rising lightness.
constexpr std::array<int, 10> kMagma256 = {233, 53, 89, 125, 168, 203, 209, 215, 222, 229};
// Of the 16: black, blue, magenta, bright red, bright yellow, bright white.
constexpr std::array<int, 6> kMagma16 = {0, 4, 5, 9, 11, 15};

// Where in the colours a rank is, from 0, the darkest, to 1.
double LightnessOf(std::uint32_t rank, bool light) {
  const double share = std::pow(std::log1p(std::min(rank, kLastRank)) / std::log(kLastRank + 2.0), 0.6);
  return light ? 1 - 0.94 * share : 0.08 + 0.92 * share;
}

// What selects the colour of a rank for letters or for the ground, without ESC [ and m.
std::string Select(std::uint32_t rank, const Terminal& terminal, bool ground) {
  switch (terminal.colours) {
    case ColourDepth::kNone:
      return "";
    case ColourDepth::k16: {
      // Ranks 0, 1, 2, 3 to 6, 7 to 14, and all rarer ones.
      const std::size_t doublings = std::bit_width(rank + std::uint64_t{1});
      const std::size_t level = rank < 3 ? rank : std::min(doublings, kMagma16.size() - 1);
      const int colour = kMagma16[terminal.light ? kMagma16.size() - 1 - level : level];
      return absl::StrCat((colour < 8 ? 30 : 90 - 8) + colour + (ground ? 10 : 0));
    }
    case ColourDepth::k256: {
      const double level = LightnessOf(rank, terminal.light) * kMagma256.size();
      const auto place = std::min(static_cast<std::size_t>(level), kMagma256.size() - 1);
      return absl::StrCat(ground ? "48;5;" : "38;5;", kMagma256[place]);
    }
    case ColourDepth::k24Bit: {
      const auto [red, green, blue] = RankColour(rank, terminal.light);
      return absl::StrCat(ground ? "48;2;" : "38;2;", red, ";", green, ";", blue);
    }
  }
  return "";
}

std::string Styled(std::string_view text, const char* style, const Terminal& terminal) {
  if (terminal.colours == ColourDepth::kNone) return std::string(text);
  return absl::StrCat("\033[", style, "m", std::string(text), "\033[0m");
}

// Appends one line of characters: cells, or pairs of cells if `lower` has any.
void AppendLine(std::span<const std::uint32_t> upper, std::span<const std::uint32_t> lower, const Terminal& terminal,
                std::string& out) {
  std::string selected;
  for (std::size_t i = 0; i < upper.size(); ++i) {
    std::string colours = Select(upper[i], terminal, /*ground=*/!terminal.unicode);
    if (terminal.unicode) absl::StrAppend(&colours, ";", i < lower.size() ? Select(lower[i], terminal, true) : "49");
    if (colours != selected) absl::StrAppend(&out, "\033[", colours, "m");
    selected = std::move(colours);
    out += terminal.unicode ? "\u2580" : " ";  // the upper half block
  }
  out += "\033[0m\n";
}

}  // namespace

FrequencyRanks RanksOf(std::span<const std::uint32_t> tokens) {
  struct Seen {
    std::size_t count = 0;
    std::uint32_t rank = 0;
  };
  std::vector<Seen> seen;                                // by first occurrence
  std::unordered_map<std::uint32_t, std::size_t> place;  // of a token, in `seen`
  FrequencyRanks found;
  found.ranks.reserve(tokens.size());
  for (const std::uint32_t token : tokens) {
    const auto [entry, is_new] = place.try_emplace(token, seen.size());
    if (is_new) seen.emplace_back();
    ++seen[entry->second].count;
    found.ranks.push_back(static_cast<std::uint32_t>(entry->second));
  }
  std::vector<Seen*> by_rank;
  by_rank.reserve(seen.size());
  for (Seen& entry : seen) by_rank.push_back(&entry);
  std::ranges::stable_sort(by_rank, [](const Seen* a, const Seen* b) { return a->count > b->count; });
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank) by_rank[rank]->rank = static_cast<std::uint32_t>(rank);
  for (std::uint32_t& token : found.ranks) token = seen[token].rank;
  found.distinct = seen.size();
  return found;
}

char GlyphOf(std::uint32_t rank) { return rank < kGlyphs.size() ? kGlyphs[rank] : kRareGlyph; }

std::array<int, 3> RankColour(std::uint32_t rank, bool light) {
  const double at = LightnessOf(rank, light) * (kMagma.size() - 1);
  const auto low = std::min(static_cast<std::size_t>(at), kMagma.size() - 2);
  std::array<int, 3> colour{};
  for (std::size_t i = 0; i < colour.size(); ++i) {
    const double from = kMagma[low][i];
    colour[i] = static_cast<int>(std::floor(from + (at - low) * (kMagma[low + 1][i] - from) + 0.5));
  }
  return colour;
}

void AppendCells(std::span<const std::uint32_t> ranks, const Terminal& terminal, std::string& out) {
  const std::size_t stacked = terminal.unicode ? 2 : 1;  // cells of a character
  const std::size_t columns = std::max(1, terminal.columns);
  const std::size_t lines = (ranks.size() + stacked * columns - 1) / (stacked * columns);
  const std::size_t width = lines == 0 ? 1 : (ranks.size() + stacked * lines - 1) / (stacked * lines);
  while (!ranks.empty()) {
    const auto upper = ranks.first(std::min(width, ranks.size()));
    ranks = ranks.subspan(upper.size());
    const auto lower = ranks.first(terminal.unicode ? std::min(width, ranks.size()) : 0);
    ranks = ranks.subspan(lower.size());
    AppendLine(upper, lower, terminal, out);
  }
}

std::string Bold(std::string_view text, const Terminal& terminal) { return Styled(text, "1", terminal); }

std::string Faint(std::string_view text, const Terminal& terminal) { return Styled(text, "2", terminal); }

}  // namespace iterand::cli
