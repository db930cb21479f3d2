// A stream's plan: everything that its recipe says, checked and computed once.
//
//   ResolveRecipe(recipe)             defaults and checks of the recipe alone  (iterate/recipe.h)
//   StreamPlan::Make(resolved, seed)  families, limits, costs, fingerprint
//   Stream, Chain, Pool, writers      take the plan and ask the recipe nothing again
//
// Immutable, so all threads may use it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/dtype.h"
#include "iterate/family_mix.h"
#include "iterate/fingerprint.h"
#include "iterate/index_map.h"
#include "iterate/layout.h"
#include "iterate/mixture.h"
#include "iterate/recipe.h"
#include "iterate/stream_cost.h"

namespace iterand {

class StreamPlan {
 public:
  // Makes the families and checks that memory and time stay within iterate/limits.h. Errors: InvalidArgument with the
  // path of the field, its value and what is allowed.
  static absl::StatusOr<std::shared_ptr<const StreamPlan>> Make(ResolvedRecipe resolved, std::uint64_t seed);
  // The same, after ResolveRecipe.
  static absl::StatusOr<std::shared_ptr<const StreamPlan>> Make(const v1::Recipe& recipe, std::uint64_t seed);

  const v1::Recipe& recipe() const { return resolved_.proto(); }  // every default written out
  std::uint64_t seed() const { return seed_; }
  const Fingerprint& fingerprint() const { return fingerprint_; }

  // The parts of a mixture; nullptr if the recipe is none.
  const MixturePlan* mixture() const { return mixture_.get(); }
  // The plans that segments are made by: those of the parts, or this one if the recipe is not a mixture.
  int parts() const { return mixture_ ? mixture_->size() : 1; }
  const StreamPlan& part(int i) const { return mixture_ ? mixture_->part(i) : *this; }
  // Length and marks; of a mixture, each part has its own number of symbols per row.
  const SequenceLayout& layout() const { return resolved_.layout(); }

  // ---- Of a recipe that is not a mixture. ----

  const FamilyMix& mix() const { return mix_; }
  int alphabet() const { return static_cast<int>(recipe().alphabet_size()); }
  // The strategy of the rounds; nullptr if the recipe has the other one.
  const ChainSettings* chain() const { return resolved_.chain(); }
  const PoolSettings* pool() const { return resolved_.pool(); }
  bool endless() const { return resolved_.endless(); }
  int max_program_rows() const { return resolved_.max_program_rows(); }  // that one round computes

  // ---- Of all recipes. ----

  const IndexMap& index_map() const { return index_map_; }
  Dtype dtype() const { return dtype_; }
  const StreamCost& cost() const { return cost_; }

 private:
  StreamPlan(ResolvedRecipe resolved, std::uint64_t seed, FamilyMix mix);
  StreamPlan(ResolvedRecipe resolved, std::uint64_t seed, std::unique_ptr<const MixturePlan> mixture);

  const ResolvedRecipe resolved_;
  const std::uint64_t seed_;
  const Fingerprint fingerprint_;
  const FamilyMix mix_;  // empty in a mixture
  const std::unique_ptr<const MixturePlan> mixture_;
  const IndexMap index_map_;
  const Dtype dtype_;
  const StreamCost cost_;
};

}  // namespace iterand
