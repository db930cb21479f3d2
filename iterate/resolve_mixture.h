// Parts of ResolveRecipe (iterate/recipe.h). Nothing else includes this.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/recipe.h"

namespace iterand {

// Lanes of a recipe that gives none and has no endless pool.
inline constexpr std::int64_t kDefaultLanes = 32;

// Resolves a recipe of families.
absl::StatusOr<ResolvedRecipe> ResolveSingle(v1::Recipe recipe);

// Resolves a recipe with a mixture:
//   - The fields of the whole stream (length, vocab_size, lanes, segment_sequences, marks, loss_mask) are those of the
//     outermost recipe. A part may repeat them with equal values. The parts of the resolved recipe do not have them.
//   - All other fields belong to the recipes of parts and are refused beside a mixture.
//   - A preset is replaced by its recipe. A part without a name takes that of its preset.
// Makes no family, and does nothing for more than MaxParts() parts.
absl::StatusOr<ResolvedRecipe> ResolveMixture(v1::Recipe recipe, const PresetLoader& presets);

// Refuses a mixture of more than MaxParts() parts.
absl::Status CheckPartCount(int parts);

}  // namespace iterand
