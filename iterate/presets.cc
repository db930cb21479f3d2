#include "iterate/presets.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/shorten.h"
#include "iterate/recipe_json.h"
#include "iterate/suggest.h"

namespace iterand {

absl::StatusOr<v1::Recipe> LoadPreset(std::string_view name) {
  std::vector<std::string> names;
  for (const PresetEntry& preset : AllPresets()) {
    if (preset.name == name) return ParseRecipeJson(preset.json);
    names.emplace_back(preset.name);
  }
  return absl::NotFoundError(absl::StrCat("preset: no preset is named \"", Shorten(name, 60), "\"",
                                          DidYouMean(name, names), ", must be one of ", absl::StrJoin(names, ", ")));
}

}  // namespace iterand
