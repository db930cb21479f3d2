// Recipes: JSON, defaults, checks, canonical form, fingerprint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/segment.h"
#include "iterate/stream.h"

namespace iterand {

class FamilyMix;

// A recipe from its JSON text. Errors: InvalidArgument for broken JSON and for unknown fields, with their path.
absl::StatusOr<v1::Recipe> ParseRecipeJson(std::string_view json);

// JSON text of a recipe, indented, with field names as in recipe.proto.
std::string RecipeToJson(const v1::Recipe& recipe);

// Writes out every default and checks every field and every limit. Errors: InvalidArgument with the path of the field,
// its value and what is allowed.
absl::StatusOr<v1::Recipe> ResolveRecipe(const v1::Recipe& recipe);

// Canonical text of a resolved recipe: "path=value" lines in the order of field numbers, reals as the hexadecimal bits
// of their double, `description` left out. Stable across protobuf versions; the input of the fingerprint.
std::string CanonicalText(const v1::Recipe& resolved);

// SHA-256 of engine version, canonical text and seed.
Fingerprint ComputeFingerprint(const v1::Recipe& resolved, std::uint64_t seed);

// Dtype of a resolved recipe's tokens.
Dtype RecipeDtype(const v1::Recipe& resolved);

// Bytes that one thread needs to make segments, at most: a program of each family, and the rows that they work on.
double WorkspaceBytes(const v1::Recipe& resolved, const FamilyMix& mix);

// Bytes that a lane of an endless pool keeps, at most: pools with the rows that wait, and the segments made last.
double EndlessLaneBytes(const v1::Recipe& resolved);

}  // namespace iterand
