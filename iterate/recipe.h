// A recipe with every default written out and every field checked.
//
// ResolveRecipe looks at the recipe alone: it makes no family and allocates nothing that grows with the recipe's
// numbers. So it is cheap enough to find out whether a stream is open already. StreamPlan (iterate/plan.h) makes the
// families and checks what they may cost.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/chain_settings.h"
#include "iterate/dtype.h"
#include "iterate/fingerprint.h"
#include "iterate/index_map.h"
#include "iterate/layout.h"
#include "iterate/pool_settings.h"
#include "iterate/presets.h"
#include "iterate/schedule.h"

namespace iterand {

struct ResolvedPart;

// Only ResolveRecipe makes one.
class ResolvedRecipe {
 public:
  const v1::Recipe& proto() const { return proto_; }
  // Of a mixture, only length and marks are meaningful: each part has its own alphabet and packing.
  const SequenceLayout& layout() const { return layout_; }

  // The parts of a mixture, in the order of the recipe; empty if the recipe is none. What follows up to
  // max_program_rows() is about the families of a recipe, and a mixture has none.
  const std::vector<ResolvedPart>& parts() const { return parts_; }

  // The strategy of the rounds; nullptr if the recipe has the other one.
  const ChainSettings* chain() const { return std::get_if<ChainSettings>(&rounds_); }
  const PoolSettings* pool() const { return std::get_if<PoolSettings>(&rounds_); }
  bool endless() const { return pool() != nullptr && pool()->endless; }
  // Bounds on the rows that one round computes.
  int min_program_rows() const { return pool() != nullptr ? pool()->program_rows : chain()->rows.low(); }
  int max_program_rows() const { return pool() != nullptr ? pool()->program_rows : chain()->rows.high(); }

  IndexMap index_map() const {
    return {static_cast<std::uint32_t>(proto_.lanes()), static_cast<std::uint32_t>(proto_.segment_sequences())};
  }
  Dtype dtype() const { return SmallestDtype(proto_.vocab_size()); }
  Fingerprint fingerprint(std::uint64_t seed) const { return ComputeFingerprint(proto_, seed); }

 private:
  friend absl::StatusOr<ResolvedRecipe> ResolveSingle(v1::Recipe recipe);
  friend class MixtureResolver;
  using Rounds = std::variant<std::monostate, ChainSettings, PoolSettings>;
  ResolvedRecipe(v1::Recipe proto, const SequenceLayout& layout, Rounds rounds);

  v1::Recipe proto_;
  SequenceLayout layout_;
  Rounds rounds_;
  std::vector<ResolvedPart> parts_;
};

// A part of a mixture.
struct ResolvedPart {
  // How the part's fields are reached from the part, for errors: ".recipe.", or ".preset "NAME": " if the recipe that
  // was given names a preset.
  std::string source;
  Schedule weight;
  ResolvedRecipe recipe;  // complete: with the fields that the whole stream has for all parts
};

// Where the recipes of presets come from.
using PresetLoader = std::function<absl::StatusOr<v1::Recipe>(std::string_view name)>;

// Writes out every default, and in a mixture the recipes of presets. Checks the range of every field, and what depends
// on several fields, except within a family. Errors: InvalidArgument with the path of the field, its value and what is
// allowed.
absl::StatusOr<ResolvedRecipe> ResolveRecipe(const v1::Recipe& recipe, const PresetLoader& presets = LoadPreset);

// The same error at a place further out: `path` goes before the field that the message names.
absl::Status AtPath(const std::string& path, const absl::Status& status);

}  // namespace iterand
