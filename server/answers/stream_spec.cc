#include "server/answers/stream_spec.h"

#include <cstring>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"

namespace iterand {

absl::StatusOr<v1::Recipe> NamedRecipe(const v1::StreamSpec& spec) {
  absl::StatusOr<v1::Recipe> recipe;
  switch (spec.recipe_source_case()) {
    case v1::StreamSpec::kPreset:
      recipe = LoadPreset(spec.preset());
      if (!recipe.ok()) return WithReason(v1::UNKNOWN_PRESET, recipe.status(), {{"preset", spec.preset()}});
      break;
    case v1::StreamSpec::kRecipeJson:
      recipe = ParseRecipeJson(spec.recipe_json());
      if (!recipe.ok()) return WithReason(v1::INVALID_RECIPE, recipe.status());
      break;
    case v1::StreamSpec::kRecipe:
      recipe = spec.recipe();
      break;
    case v1::StreamSpec::RECIPE_SOURCE_NOT_SET:
      return InvalidField("stream", absl::StrCat("stream names no recipe: give one of preset (such as \"",
                                                 std::string(kDefaultPreset), "\"), recipe_json and recipe"));
  }
  if (spec.has_length()) recipe->set_length(spec.length());
  if (spec.has_loss_mask()) recipe->set_loss_mask(spec.loss_mask());
  return recipe;
}

absl::Status CheckFingerprint(const v1::StreamSpec& spec, const Stream& stream) {
  if (!spec.has_expected_fingerprint()) return absl::OkStatus();
  const std::string& expected = spec.expected_fingerprint();
  const Fingerprint& actual = stream.fingerprint();
  if (expected.size() != actual.size()) {
    return InvalidField("stream.expected_fingerprint", absl::StrCat("stream.expected_fingerprint has ", expected.size(),
                                                                    " bytes; a fingerprint has ", actual.size()));
  }
  if (std::memcmp(expected.data(), actual.data(), actual.size()) == 0) return absl::OkStatus();
  const std::string recipe =
      spec.has_preset() ? absl::StrCat("preset \"", spec.preset(), "\"") : std::string("the given recipe");
  const std::string message = absl::StrCat(
      "stream.expected_fingerprint is ", absl::BytesToHexString(expected), ", but ", recipe, " with seed ",
      stream.seed(), " and length ", stream.length(), " has ", ToHex(actual), " in engine version ", kEngineVersion,
      ": a cursor continues only with the recipe, seed, length and engine version it was made with");
  return WithReason(v1::FINGERPRINT_MISMATCH, absl::FailedPreconditionError(message),
                    {{"expected", absl::BytesToHexString(expected)}, {"actual", ToHex(actual)}});
}

}  // namespace iterand
