#include "common/recipe_source.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/read_file.h"
#include "common/status_message.h"

namespace iterand {

absl::Status RecipeSource::Annotate(const absl::Status& status) const {
  if (path.empty() || !absl::IsInvalidArgument(status)) return status;
  return WithMessage(status, absl::StrCat(path, ": ", status.message()));
}

absl::StatusOr<RecipeSource> ReadRecipeSource(const std::string& recipe, std::size_t max_bytes) {
  RecipeSource source;
  const absl::string_view text = absl::StripLeadingAsciiWhitespace(recipe);
  if (text.empty()) {
    return absl::InvalidArgumentError(
        "recipe: is empty; must be a preset's name, the path of a JSON file or JSON text");
  }
  if (absl::StartsWith(text, "{")) {
    source.json = recipe;
  } else if (absl::StrContains(recipe, '/') || absl::EndsWith(recipe, ".json")) {
    absl::StatusOr<std::string> content = ReadFile(recipe, max_bytes);
    if (!content.ok()) return content.status();
    source.json = *std::move(content);
    source.path = recipe;
  } else {
    source.preset = recipe;
  }
  return source;
}

}  // namespace iterand
