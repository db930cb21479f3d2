#include "clients/cpp/named_stream.h"

#include <string>
#include <utility>

#include "common/fingerprint_text.h"
#include "common/rpc/error_info.h"
#include "iterate/limits.h"

namespace iterand {

absl::StatusOr<NamedStream> NameStream(const StreamSpec& stream) {
  absl::StatusOr<RecipeSource> source = ReadRecipeSource(stream.recipe, kMaxRecipeJsonBytes);
  if (!source.ok()) return source.status();
  NamedStream named{.source = *std::move(source), .spec = {}};
  if (named.source.is_json()) {
    named.spec.set_recipe_json(named.source.json);
  } else {
    named.spec.set_preset(named.source.preset);
  }
  named.spec.set_seed(stream.seed);
  if (stream.length) named.spec.set_length(*stream.length);
  if (stream.loss_mask) named.spec.set_loss_mask(*stream.loss_mask);
  if (!stream.expected_fingerprint.empty()) {
    absl::StatusOr<std::string> fingerprint = ParseFingerprint(stream.expected_fingerprint);
    if (!fingerprint.ok()) return fingerprint.status();
    named.spec.set_expected_fingerprint(*std::move(fingerprint));
  }
  return named;
}

absl::Status AnnotateRecipeError(const RecipeSource& source, const absl::Status& status) {
  const v1::ErrorReason reason = ReasonOf(status);
  const bool of_recipe = reason == v1::INVALID_RECIPE || reason == v1::ERROR_REASON_UNSPECIFIED;
  return of_recipe ? source.Annotate(status) : status;
}

}  // namespace iterand
