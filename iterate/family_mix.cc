#include "iterate/family_mix.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace iterand {

absl::StatusOr<FamilyMix> FamilyMix::Make(const ResolvedRecipe& resolved) {
  const v1::Recipe& recipe = resolved.proto();
  FamilyMix mix;
  mix.mix_ = recipe.mix();
  const FamilyContext context{.alphabet = static_cast<int>(recipe.alphabet_size()),
                              .length = resolved.layout().symbols()};
  double largest = 0;
  for (const v1::Family& config : recipe.families()) largest = std::max(largest, config.weight());
  for (int i = 0; i < recipe.families_size(); ++i) {
    const v1::Family& config = recipe.families(i);
    const FamilyEntry& entry = *FindFamily(config.kind_case());
    auto family = entry.Make(config, context, absl::StrCat("families[", i, "].", std::string(entry.name)));
    if (!family.ok()) return family.status();
    // Rounds by addition. This is part of the stream's definition and depends on no library.
    // NOLINTNEXTLINE(bugprone-incorrect-roundings)
    auto weight = static_cast<std::uint32_t>(config.weight() / largest * (1 << 20) + 0.5);
    if (config.weight() > 0) weight = std::max(weight, 1U);  // a positive weight can be drawn
    mix.weights_.push_back(weight);
    mix.total_ += weight;
    if ((*family)->reads_input()) mix.reader_total_ += weight;
    mix.names_.emplace_back(entry.name);
    mix.families_.push_back(*std::move(family));
  }
  if (mix.mix_ == v1::Recipe::LANE) mix.AssignLanes(static_cast<std::uint64_t>(recipe.lanes()));
  return mix;
}

void FamilyMix::AssignLanes(std::uint64_t lanes) {
  // Each lane in turn gets the family that is furthest below its share, so any stretch of lanes has nearly the right
  // shares.
  std::vector<std::uint64_t> given(weights_.size());
  for (std::uint64_t lane = 0; lane < lanes; ++lane) {
    std::size_t best = 0;
    std::int64_t best_lag = INT64_MIN;
    for (std::size_t f = 0; f < given.size(); ++f) {
      const auto lag =
          static_cast<std::int64_t>((lane + 1) * weights_[f]) - static_cast<std::int64_t>(given[f] * total_);
      if (lag > best_lag) {
        best_lag = lag;
        best = f;
      }
    }
    ++given[best];
    lane_family_.push_back(static_cast<std::uint16_t>(best));
  }
}

double FamilyMix::share(int i) const {
  return static_cast<double>(weights_[static_cast<std::size_t>(i)]) / static_cast<double>(total_);
}

int FamilyMix::Fixed(const RandomKey& key) const {
  switch (mix_) {
    case v1::Recipe::ROUND:
      return -1;
    case v1::Recipe::LANE:
      return lane_family_[key.lane];
    default: {
      RandomKey segment = key;
      segment.round = 0;
      // Row 1, so that this draw differs from that of round 0.
      Rng rng = MakeRng(segment, Purpose::kMix, 1);
      return Draw(rng, /*readers_only=*/false);
    }
  }
}

int FamilyMix::Draw(Rng& rng, bool readers_only) const {
  std::uint32_t ticket = rng.Below(readers_only ? reader_total_ : total_);
  for (int i = 0; i < size(); ++i) {
    if (readers_only && !family(i).reads_input()) continue;
    const std::uint32_t weight = weights_[static_cast<std::size_t>(i)];
    if (ticket < weight) return i;
    ticket -= weight;
  }
  return size() - 1;  // unreachable: a ticket is below the sum of the weights
}

}  // namespace iterand
