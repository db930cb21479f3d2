// A recipe as users give it: a preset's name, the path of a JSON file, or JSON text.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace iterand {

struct RecipeSource {
  std::string preset;  // a preset's name, unless the two below are given
  std::string json;    // JSON text
  std::string path;    // the file that `json` was read from, if it was

  bool is_json() const { return preset.empty(); }

  // `status`, with the path before its message if the fault is in the file.
  absl::Status Annotate(const absl::Status& status) const;
};

// Text that begins with a brace, after white space, is JSON. Text with a slash in it, or with ".json" at its end, is a
// path. Anything else is a name. The Python package has the same rule. Errors: InvalidArgument for an empty text;
// NotFound or InvalidArgument for a file that cannot be read or has more than `max_bytes`, with its path.
absl::StatusOr<RecipeSource> ReadRecipeSource(const std::string& recipe, std::size_t max_bytes);

}  // namespace iterand
