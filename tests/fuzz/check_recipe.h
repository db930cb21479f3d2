// Checks that must hold for every recipe, whatever is in it.
#pragma once

#include "absl/status/status.h"
#include "iterand/v1/recipe.pb.h"

namespace iterand {

// Checks that a refusal is an InvalidArgument with a message.
void ExpectRefusal(const absl::Status& status);

// Resolves a recipe and opens it as a stream. A resolved recipe resolves to itself, and its JSON is the same recipe. A
// smaller recipe of the kind makes the same segment twice. Every refusal has a message.
void CheckRecipe(const v1::Recipe& recipe);

}  // namespace iterand
