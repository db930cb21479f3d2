// Presets: the recipes of iterate/presets/*.json, compiled in.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"

namespace iterand {

struct PresetEntry {
  std::string_view name;  // the file's name
  std::string_view json;
};

// All presets, by name.
std::span<const PresetEntry> AllPresets();

// The recipe of a preset. NotFound, with the nearest names and the list of all, if there is none of that name.
absl::StatusOr<v1::Recipe> LoadPreset(std::string_view name);

// Preset used where none is named.
inline constexpr std::string_view kDefaultPreset = "up";

}  // namespace iterand
