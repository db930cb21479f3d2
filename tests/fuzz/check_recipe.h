// What holds for every recipe, whatever is in it.
#pragma once

#include "absl/status/status.h"
#include "iterand/v1/recipe.pb.h"

namespace iterand {

// Claims that a refusal is an InvalidArgument with words.
void ExpectRefusal(const absl::Status& status);

// Resolves a recipe and opens it as a stream. What resolves is its own resolution, and its JSON is the same recipe. A
// smaller recipe of the kind makes a segment twice, which is the same. Whatever is refused is refused with a message.
void CheckRecipe(const v1::Recipe& recipe);

}  // namespace iterand
