// A recipe with every default written out and every field checked.
//
// ResolveRecipe looks at the recipe alone: it makes no family and allocates nothing that grows with the recipe's
// numbers, so it is cheap enough to find out whether a stream is open already. StreamPlan (iterate/plan.h) makes the
// families and checks what they may cost.
#pragma once

#include <cstdint>
#include <variant>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/chain_settings.h"
#include "iterate/dtype.h"
#include "iterate/fingerprint.h"
#include "iterate/index_map.h"
#include "iterate/layout.h"
#include "iterate/pool_settings.h"

namespace iterand {

// Only ResolveRecipe makes one.
class ResolvedRecipe {
 public:
  const v1::Recipe& proto() const { return proto_; }
  const SequenceLayout& layout() const { return layout_; }

  // The strategy of the rounds; nullptr if the recipe has the other one.
  const ChainSettings* chain() const { return std::get_if<ChainSettings>(&rounds_); }
  const PoolSettings* pool() const { return std::get_if<PoolSettings>(&rounds_); }
  bool endless() const { return pool() != nullptr && pool()->endless; }
  // Bounds on the rows that one round computes.
  int min_program_rows() const { return pool() != nullptr ? pool()->program_rows : chain()->rows.low(); }
  int max_program_rows() const { return pool() != nullptr ? pool()->program_rows : chain()->rows.high(); }

  IndexMap index_map() const {
    return {static_cast<std::uint32_t>(proto_.lanes()), static_cast<std::uint32_t>(proto_.segment_sequences())};
  }
  Dtype dtype() const { return SmallestDtype(proto_.vocab_size()); }
  Fingerprint fingerprint(std::uint64_t seed) const { return ComputeFingerprint(proto_, seed); }

 private:
  friend absl::StatusOr<ResolvedRecipe> ResolveRecipe(const v1::Recipe& recipe);
  using Rounds = std::variant<ChainSettings, PoolSettings>;
  ResolvedRecipe(v1::Recipe proto, const SequenceLayout& layout, Rounds rounds);

  v1::Recipe proto_;
  SequenceLayout layout_;
  Rounds rounds_;
};

// Writes out every default and checks the range of every field, and what depends on several fields, except within a
// family. Errors: InvalidArgument with the path
// of the field, its value and what is allowed.
absl::StatusOr<ResolvedRecipe> ResolveRecipe(const v1::Recipe& recipe);

}  // namespace iterand
