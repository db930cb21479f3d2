#include "iterate/inspection.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "iterate/dtype.h"

namespace iterand {
namespace {

// What the complexity of a sequence is measured against: the symbols that it can consist of.
int AlphabetOf(const v1::Recipe& part, const v1::Recipe& whole) {
  constexpr std::int64_t kMost = 65536;
  return static_cast<int>(part.pack() > 1 ? std::min(whole.vocab_size(), kMost) : part.alphabet_size());
}

// The recipes that make sequences, in the order of MixturePlan. Those of parts lack what belongs to the whole stream.
void AppendParts(const v1::Recipe& recipe, std::vector<const v1::Recipe*>& parts) {
  if (recipe.mixture().empty()) parts.push_back(&recipe);
  for (const v1::Part& part : recipe.mixture()) AppendParts(part.recipe(), parts);
}

}  // namespace

Inspector::Inspector(const v1::Recipe& resolved, std::vector<std::string> parts)
    : length_(static_cast<int>(resolved.length())),
      dtype_(SmallestDtype(resolved.vocab_size())),
      names_(std::move(parts)),
      statistics_(dtype_, length_, static_cast<std::uint64_t>(resolved.vocab_size())),
      structure_(length_, static_cast<std::uint64_t>(resolved.vocab_size())),
      tokens_(static_cast<std::size_t>(length_)) {
  std::vector<const v1::Recipe*> recipes;
  AppendParts(resolved, recipes);
  for (const v1::Recipe* const recipe : recipes) {
    const std::size_t number = parts_.size();
    Part& part = parts_.emplace_back();
    part.alphabet = AlphabetOf(*recipe, resolved);
    largest_alphabet_ = std::max(largest_alphabet_, part.alphabet);
    if (!recipe->has_band()) continue;
    part.band = InspectedBand{
        .part = names_.empty() ? "" : names_[number], .low = recipe->band().low(), .high = recipe->band().high()};
  }
}

void Inspector::Add(const std::byte* sequence, int part) {
  const std::uint8_t numbers[] = {static_cast<std::uint8_t>(part)};
  statistics_.Add(sequence, 1, names_.empty() || part < 0 ? std::span<const std::uint8_t>() : numbers);
  const std::size_t width = DtypeBytes(dtype_);
  std::ranges::fill(tokens_, 0);
  for (std::size_t t = 0; t < tokens_.size(); ++t) std::memcpy(&tokens_[t], sequence + t * width, width);
  const double complexity =
      structure_.Add(tokens_, part < 0 ? largest_alphabet_ : parts_[static_cast<std::size_t>(part)].alphabet);
  if (part < 0) return;
  const std::optional<InspectedBand>& band = parts_[static_cast<std::size_t>(part)].band;
  if (!band) return;
  ++banded_;
  in_band_ += band->low <= complexity && complexity <= band->high ? 1 : 0;
}

Inspection Inspector::Result() const {
  Inspection result{.length = length_,
                    .statistics = statistics_.Summary(),
                    .structure = structure_.Profile(),
                    .bands = {},
                    .band_share = {},
                    .parts = names_};
  for (const Part& part : parts_) {
    if (part.band) result.bands.push_back(*part.band);
  }
  if (banded_ > 0) result.band_share = static_cast<double>(in_band_) / static_cast<double>(banded_);
  return result;
}

}  // namespace iterand
