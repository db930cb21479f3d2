// Parts of ResolveRecipe (iterate/recipe.h). Nothing else includes this.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/recipe.h"

namespace iterand {

// Resolves a recipe of families.
absl::StatusOr<ResolvedRecipe> ResolveSingle(v1::Recipe recipe);

// Resolves a recipe with a mixture:
//   - what belongs to the whole stream (length, vocab_size, lanes, segment_sequences, marks, loss_mask) stands in the
//     outermost recipe. A part may repeat it, and may not say otherwise. In the resolved recipe the parts are without
//   - what belongs to the recipe of a part (all else) may not stand beside a mixture
//   - a preset is written out, and its name becomes the part's, if that has none
// No family is made, and nothing is done for more than kMaxParts parts.
absl::StatusOr<ResolvedRecipe> ResolveMixture(v1::Recipe recipe, const PresetLoader& presets);

// Refuses a mixture of more than kMaxParts parts.
absl::Status CheckPartCount(int parts);

}  // namespace iterand
