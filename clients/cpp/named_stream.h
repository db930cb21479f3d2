// A stream as a request names it. Internal to the client library and the command iterand.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/recipe_source.h"
#include "iterand/types.h"
#include "iterand/v1/noise_service.pb.h"

namespace iterand {

struct NamedStream {
  RecipeSource source;  // where the recipe came from
  v1::StreamSpec spec;
};

// Reads the recipe's file, if the recipe is one. A preset is sent by name, so that the server's own is used. Errors:
// InvalidArgument for a fingerprint that is not one; those of ReadRecipeSource.
absl::StatusOr<NamedStream> NameStream(const StreamSpec& stream);

// An error of a request. If the recipe is to blame, the path of its file comes before the message. That is decided by
// the error's reason, or by its code if an older server gives no reason.
absl::Status AnnotateRecipeError(const RecipeSource& source, const absl::Status& status);

}  // namespace iterand
