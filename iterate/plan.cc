#include "iterate/plan.h"

#include <utility>

#include "iterate/check_limits.h"

namespace iterand {

StreamPlan::StreamPlan(ResolvedRecipe resolved, std::uint64_t seed, FamilyMix mix)
    : resolved_(std::move(resolved)),
      seed_(seed),
      fingerprint_(resolved_.fingerprint(seed)),
      mix_(std::move(mix)),
      index_map_(resolved_.index_map()),
      dtype_(resolved_.dtype()),
      cost_(EstimateCost(resolved_, mix_)) {}

StreamPlan::StreamPlan(ResolvedRecipe resolved, std::uint64_t seed, std::unique_ptr<const MixturePlan> mixture)
    : resolved_(std::move(resolved)),
      seed_(seed),
      fingerprint_(resolved_.fingerprint(seed)),
      mixture_(std::move(mixture)),
      index_map_(resolved_.index_map()),
      dtype_(resolved_.dtype()),
      cost_(EstimateCost(resolved_, *mixture_)) {}

absl::StatusOr<std::shared_ptr<const StreamPlan>> StreamPlan::Make(ResolvedRecipe resolved, std::uint64_t seed) {
  if (absl::Status s = CheckStreamBytes(resolved); !s.ok()) return s;
  if (!resolved.parts().empty()) {
    absl::StatusOr<std::unique_ptr<const MixturePlan>> mixture = MixturePlan::Make(resolved, seed);
    if (!mixture.ok()) return mixture.status();
    return std::shared_ptr<const StreamPlan>(new StreamPlan(std::move(resolved), seed, *std::move(mixture)));
  }
  absl::StatusOr<FamilyMix> mix = FamilyMix::Make(resolved);
  if (!mix.ok()) return mix.status();
  if (absl::Status s = CheckWork(resolved, *mix); !s.ok()) return s;
  return std::shared_ptr<const StreamPlan>(new StreamPlan(std::move(resolved), seed, *std::move(mix)));
}

absl::StatusOr<std::shared_ptr<const StreamPlan>> StreamPlan::Make(const v1::Recipe& recipe, std::uint64_t seed) {
  absl::StatusOr<ResolvedRecipe> resolved = ResolveRecipe(recipe);
  if (!resolved.ok()) return resolved.status();
  return Make(*std::move(resolved), seed);
}

}  // namespace iterand
