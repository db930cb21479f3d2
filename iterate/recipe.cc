#include "iterate/recipe.h"

#include <google/protobuf/descriptor.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "iterate/limits.h"
#include "iterate/resolve_mixture.h"
#include "randnet/family.h"
#include "randnet/settings.h"

namespace iterand {
namespace {

// Writes the defaults that depend on other fields. The ranges have been checked.
void ComputeDefaults(v1::Recipe& recipe) {
  for (v1::Family& family : *recipe.mutable_families()) {
    const FamilyEntry* const entry = FindFamily(family.kind_case());
    if (entry != nullptr && entry->compute_defaults != nullptr) entry->compute_defaults(family);
  }
  if (recipe.has_pool()) PoolSettings::ComputeDefaults(*recipe.mutable_pool());
  if (!recipe.has_lanes()) recipe.set_lanes(recipe.pool().endless() ? 1 : kDefaultLanes);
  SequenceLayout::ComputeDefaults(recipe);
}

absl::Status CheckBand(const v1::Band& band) {
  if (band.low() <= band.high()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("band: is low ", band.low(), ", high ", band.high(), ", must have low <= high"));
}

absl::Status CheckFamilies(const v1::Recipe& recipe) {
  double total = 0;
  for (int i = 0; i < recipe.families_size(); ++i) {
    const v1::Family& family = recipe.families(i);
    if (FindFamily(family.kind_case()) == nullptr) {
      std::vector<std::string> names;
      for (const FamilyEntry& entry : AllFamilies()) names.emplace_back(entry.name);
      return absl::InvalidArgumentError(
          absl::StrCat("families[", i, "]: names no family, must have one of ", absl::StrJoin(names, ", ")));
    }
    total += family.weight();
  }
  if (total <= 0) return absl::InvalidArgumentError("families: all weights are 0, at least one must be positive");
  return absl::OkStatus();
}

// What a recipe with a pool must not have.
absl::Status CheckBesidePool(const v1::Recipe& recipe) {
  if (recipe.pool().endless() && (recipe.has_band() || recipe.distinct())) {
    return absl::InvalidArgumentError(
        absl::StrCat(recipe.has_band() ? "band" : "distinct",
                     ": an endless pool takes no filter; set pool.endless to false, or leave the filter out"));
  }
  // A pool emits rows of earlier rounds, whose programs no longer exist; a rejected program would leave it no rows.
  if (recipe.loss_mask() || recipe.band().has_trial()) {
    return absl::InvalidArgumentError(absl::StrCat(recipe.loss_mask() ? "loss_mask" : "band.trial",
                                                   ": is set, but a pool has none; use a chain, or leave it out"));
  }
  return absl::OkStatus();
}

}  // namespace

ResolvedRecipe::ResolvedRecipe(v1::Recipe proto, const SequenceLayout& layout, Rounds rounds)
    : proto_(std::move(proto)), layout_(layout), rounds_(std::move(rounds)) {}

absl::Status AtPath(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, status.message()));
}

absl::StatusOr<ResolvedRecipe> ResolveSingle(v1::Recipe recipe) {
  // First, since what follows takes time and memory for each family.
  if (absl::Status s = CheckSize(recipe, v1::Recipe::kFamiliesFieldNumber); !s.ok()) return s;
  if (!recipe.has_pool()) recipe.mutable_chain();
  WriteDefaults(recipe);
  if (absl::Status s = CheckFields(recipe, ""); !s.ok()) return s;
  ComputeDefaults(recipe);
  const absl::StatusOr<SequenceLayout> layout = SequenceLayout::Make(recipe);
  if (!layout.ok()) return layout.status();
  if (absl::Status s = CheckBand(recipe.band()); !s.ok()) return s;
  if (absl::Status s = CheckFamilies(recipe); !s.ok()) return s;
  if (!recipe.has_pool()) {
    absl::StatusOr<ChainSettings> chain = ChainSettings::Make(recipe.chain());
    if (!chain.ok()) return chain.status();
    return ResolvedRecipe(std::move(recipe), *layout, *std::move(chain));
  }
  const absl::StatusOr<PoolSettings> pool = PoolSettings::Make(recipe.pool());
  if (!pool.ok()) return pool.status();
  if (absl::Status s = CheckBesidePool(recipe); !s.ok()) return s;
  return ResolvedRecipe(std::move(recipe), *layout, *pool);
}

absl::StatusOr<ResolvedRecipe> ResolveRecipe(const v1::Recipe& recipe, const PresetLoader& presets) {
  if (recipe.ByteSizeLong() > kMaxRecipeJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("recipe: has ", recipe.ByteSizeLong(), " bytes, may have at most ", kMaxRecipeJsonBytes));
  }
  if (recipe.mixture().empty()) return ResolveSingle(recipe);
  // First, since what follows takes time and memory for each part.
  if (absl::Status s = CheckPartCount(recipe.mixture_size()); !s.ok()) return s;
  if (absl::Status s = CheckKnown(recipe, ""); !s.ok()) return s;
  return ResolveMixture(recipe, presets);
}

}  // namespace iterand
