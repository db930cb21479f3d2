// Refuses recipes that could ask for more memory or time than iterate/limits.h allows.
#pragma once

#include "absl/status/status.h"
#include "iterate/family_mix.h"
#include "iterate/recipe.h"

namespace iterand {

// Memory of the stream: the segments of all lanes and, of an endless pool, what its lanes keep. Checked before any
// family is made. Errors: InvalidArgument with the path of the field, its value and what is allowed.
absl::Status CheckStreamBytes(const ResolvedRecipe& resolved);

// Memory of one thread, and the time of a round and of a segment. Errors as above.
absl::Status CheckWork(const ResolvedRecipe& resolved, const FamilyMix& mix);

}  // namespace iterand
