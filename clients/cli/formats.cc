#include "clients/cli/formats.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/cli/cells.h"
#include "common/printable.h"

namespace iterand::cli {
namespace {

constexpr std::size_t kPictureWidth = 128;

template <typename Token>
void Widen(std::span<const std::byte> sequence, std::vector<std::uint32_t>& tokens) {
  tokens.resize(sequence.size() / sizeof(Token));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    Token token;
    std::memcpy(&token, sequence.data() + i * sizeof(Token), sizeof(Token));
    tokens[i] = token;
  }
}

// In quotes and ASCII, since the name comes from a server.
std::string JsonString(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
}

// "part PART, " of a row of a mixture.
std::string PartPrefix(const Provenance& provenance) {
  return provenance.part.empty() ? "" : absl::StrCat("part ", Printable(provenance.part), ", ");
}

std::string TokensSeen(std::size_t distinct) {
  return absl::StrCat(distinct, distinct == 1 ? " token" : " different tokens");
}

// `text` in one line of at most `columns` bytes.
std::string Fitting(std::string text, int columns) {
  constexpr std::string_view kCut = "...";
  const auto most = static_cast<std::size_t>(std::max(columns, 8));
  if (text.size() <= most) return text;
  text.resize(most - kCut.size());
  return text.append(kCut);
}

}  // namespace

std::string JsonText(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', /*ensure_ascii=*/true, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void WidenTokens(std::span<const std::byte> sequence, Dtype dtype, std::vector<std::uint32_t>& tokens) {
  switch (dtype) {
    case Dtype::kUint8:
      return Widen<std::uint8_t>(sequence, tokens);
    case Dtype::kUint16:
      return Widen<std::uint16_t>(sequence, tokens);
    case Dtype::kUint32:
      return Widen<std::uint32_t>(sequence, tokens);
  }
}

void AppendPicture(std::uint64_t index, const Provenance& provenance, std::span<const std::uint32_t> tokens,
                   std::string& out) {
  const FrequencyRanks found = RanksOf(tokens);
  absl::StrAppend(&out, "# ", index, ": ", PartPrefix(provenance), Printable(provenance.family), ", depth ",
                  provenance.depth, ", ", TokensSeen(found.distinct), " (lane ", provenance.lane, ", segment ",
                  provenance.segment, ", round ", provenance.round, ", row ", provenance.row, ")\n");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    out += GlyphOf(found.ranks[i]);
    if ((i + 1) % kPictureWidth == 0 || i + 1 == tokens.size()) out += '\n';
  }
}

void AppendColouredPicture(std::uint64_t index, const Provenance& provenance, const std::string& program,
                           std::span<const std::uint32_t> tokens, const Terminal& terminal, std::string& out) {
  const FrequencyRanks found = RanksOf(tokens);
  const std::string label = absl::StrCat(index, ": ", PartPrefix(provenance), Printable(provenance.family), ", depth ",
                                         provenance.depth, ", ", TokensSeen(found.distinct));
  absl::StrAppend(&out, Bold(label, terminal), "\n");
  if (!program.empty()) absl::StrAppend(&out, Faint(Fitting(Printable(program), terminal.columns), terminal), "\n");
  AppendCells(found.ranks, terminal, out);
}

void AppendJsonLine(std::uint64_t index, const Provenance& provenance, std::span<const std::uint32_t> tokens,
                    std::span<const std::byte> mask, std::string& out) {
  absl::StrAppend(&out, "{\"index\": ", index, ", \"tokens\": [");
  char number[16];
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ", ";
    const auto end = std::to_chars(number, number + sizeof(number), tokens[i]).ptr;
    out.append(number, end);
  }
  if (!mask.empty()) {
    out += "], \"loss_mask\": [";
    for (std::size_t i = 0; i < mask.size(); ++i) {
      if (i > 0) out += ", ";
      out += mask[i] == std::byte{0} ? '0' : '1';
    }
  }
  absl::StrAppend(&out, R"(], "provenance": {"lane": )", provenance.lane, R"(, "segment": )", provenance.segment,
                  R"(, "round": )", provenance.round, R"(, "row": )", provenance.row);
  absl::StrAppend(&out, R"(, "family": )", JsonString(provenance.family), R"(, "depth": )", provenance.depth);
  if (!provenance.part.empty()) absl::StrAppend(&out, R"(, "part": )", JsonString(provenance.part));
  out += "}}\n";
}

}  // namespace iterand::cli
