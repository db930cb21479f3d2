#include "iterate/mixture.h"

#include <google/protobuf/descriptor.h>

#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "iterate/limits.h"
#include "iterate/plan.h"
#include "randnet/base/rng.h"

namespace iterand {
namespace {

constexpr double kTicksPerLane = 0x1p32;

// Rounds by addition. This is part of the stream's definition and depends on no library.
// NOLINTNEXTLINE(bugprone-incorrect-roundings)
std::uint64_t RoundedTicks(double ticks) { return static_cast<std::uint64_t>(ticks + 0.5); }

void AppendNames(const v1::Recipe& recipe, const std::string& prefix, std::vector<std::string>& names) {
  for (const v1::Part& part : recipe.mixture()) {
    if (part.recipe().mixture().empty()) {
      names.push_back(prefix + part.name());
    } else {
      AppendNames(part.recipe(), absl::StrCat(prefix, part.name(), "/"), names);
    }
  }
}

}  // namespace

int MaxParts() {
  static const int kMost = static_cast<int>(v1::Recipe::descriptor()
                                                ->FindFieldByNumber(v1::Recipe::kMixtureFieldNumber)
                                                ->options()
                                                .GetExtension(v1::setting)
                                                .max());
  return kMost;
}

absl::StatusOr<std::unique_ptr<const MixturePlan>> MixturePlan::Make(const ResolvedRecipe& resolved,
                                                                     std::uint64_t seed) {
  std::unique_ptr<MixturePlan> plan(new MixturePlan());
  if (absl::Status s = plan->Add(resolved, {}, seed, plan->nodes_); !s.ok()) return s;
  return plan;
}

absl::Status MixturePlan::Add(const ResolvedRecipe& resolved, const Place& place, std::uint64_t seed,
                              std::vector<Node>& nodes) {
  for (std::size_t i = 0; i < resolved.parts().size(); ++i) {
    const ResolvedPart& part = resolved.parts()[i];
    const std::string name = absl::StrCat("mixture[", i, "]");
    const std::string path = place.path + name;
    const std::string written = absl::StrCat(place.written, name, part.source);
    Node& node = nodes.emplace_back(Node{.weight = part.weight, .nested = {}});
    if (!part.recipe.parts().empty()) {
      if (absl::Status s = Add(part.recipe, {path + ".recipe.", written}, seed, node.nested); !s.ok()) return s;
      continue;
    }
    absl::StatusOr<std::shared_ptr<const StreamPlan>> plan = StreamPlan::Make(part.recipe, seed);
    if (!plan.ok()) return AtPath(written, plan.status());
    workspace_bytes_ += (*plan)->cost().workspace_bytes;
    if (static_cast<double>(workspace_bytes_) > kMaxWorkspaceBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s%s: with the parts before it, a thread needs %d bytes for programs and the rows that it "
                          "works on; it may need at most %.0f for all parts together",
                          place.written, name, workspace_bytes_, kMaxWorkspaceBytes));
    }
    parts_.push_back({.path = path, .plan = *std::move(plan)});
  }
  return absl::OkStatus();
}

void MixturePlan::AppendShares(const std::vector<Node>& nodes, std::uint64_t index, double scale,
                               std::vector<double>& shares) {
  double sum = 0;
  for (const Node& node : nodes) sum += node.weight.At(index);
  for (const Node& node : nodes) {
    const double share = scale * (node.weight.At(index) / sum);
    if (node.nested.empty()) {
      shares.push_back(share);
    } else {
      AppendShares(node.nested, index, share, shares);
    }
  }
}

void MixturePlan::Shares(std::uint64_t index, std::vector<double>& shares) const {
  shares.clear();
  AppendShares(nodes_, index, 1, shares);
}

PartDraw::PartDraw(const StreamPlan& plan) : plan_(plan) {
  if (plan.mixture() == nullptr) return;
  parts_.resize(plan.index_map().lanes());
  order_.resize(parts_.size());
  shares_.reserve(static_cast<std::size_t>(plan.parts()));
}

int PartDraw::PartOf(std::uint32_t lane, std::uint64_t segment) {
  if (plan_.mixture() == nullptr) return 0;
  if (!drawn_ || segment_ != segment) DrawStripe(segment);
  return parts_[lane];
}

void PartDraw::DrawStripe(std::uint64_t segment) {
  const IndexMap& map = plan_.index_map();
  plan_.mixture()->Shares(segment * map.segment_sequences() * map.lanes(), shares_);
  Rng rng = MakeRng({.seed = plan_.seed(), .segment = segment}, Purpose::kMixture);
  const std::uint64_t offset = rng.Next();
  std::iota(order_.begin(), order_.end(), 0U);
  Shuffle<std::uint32_t>(rng, order_);
  const double ticks = static_cast<double>(order_.size()) * kTicksPerLane;
  std::size_t part = 0;
  double share = shares_.front();
  std::uint64_t bound = RoundedTicks(ticks * share);
  for (std::size_t j = 0; j < order_.size(); ++j) {
    const std::uint64_t ticket = (static_cast<std::uint64_t>(j) << 32) + offset;
    while (ticket >= bound && part + 1 < shares_.size()) {
      share += shares_[++part];
      bound = RoundedTicks(ticks * share);
    }
    parts_[order_[j]] = static_cast<std::uint8_t>(part);
  }
  segment_ = segment;
  drawn_ = true;
}

std::vector<std::string> PartNames(const v1::Recipe& resolved) {
  std::vector<std::string> names;
  AppendNames(resolved, "", names);
  return names;
}

}  // namespace iterand
