// Recipes as JSON, which people write and read. See docs/recipes.md for the form.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"

namespace iterand {

// A recipe from its JSON text. Errors: InvalidArgument for broken JSON and for unknown fields, with their path.
absl::StatusOr<v1::Recipe> ParseRecipeJson(std::string_view json);

// JSON text of a recipe, indented, with field names as in recipe.proto.
std::string RecipeToJson(const v1::Recipe& recipe);

}  // namespace iterand
