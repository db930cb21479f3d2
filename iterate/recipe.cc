#include "iterate/recipe.h"

#include <google/protobuf/descriptor.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "iterate/enum_name.h"
#include "iterate/limits.h"
#include "iterate/resolve_mixture.h"
#include "randnet/check.h"
#include "randnet/family.h"

namespace iterand {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string FieldPath(const std::string& path, const FieldDescriptor& field) {
  return path.empty() ? field.name() : absl::StrCat(path, ".", field.name());
}

// Calls visit(path, message) for a message and everything below it.
template <typename Visit>
absl::Status Walk(const Message& message, const std::string& path, const Visit& visit) {
  if (absl::Status status = visit(path, message); !status.ok()) return status;
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const std::string below = FieldPath(path, *field);
    if (field->is_repeated()) {
      for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
        absl::Status status =
            Walk(reflection.GetRepeatedMessage(message, field, i), absl::StrCat(below, "[", i, "]"), visit);
        if (!status.ok()) return status;
      }
    } else if (absl::Status status = Walk(reflection.GetMessage(message, field), below, visit); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

// Refuses fields and enum values that this build does not know. They can only come over the wire.
absl::Status CheckUnknown(const Message& message) {
  return Walk(message, "", [](const std::string& path, const Message& at) -> absl::Status {
    const Reflection& reflection = *at.GetReflection();
    if (reflection.GetUnknownFields(at).field_count() > 0) {
      return absl::InvalidArgumentError(absl::StrCat(path.empty() ? "recipe" : path, ": has unknown field number ",
                                                     reflection.GetUnknownFields(at).field(0).number(),
                                                     "; this server may be older than the client"));
    }
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(at, &fields);
    for (const FieldDescriptor* field : fields) {
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_ENUM) continue;
      const int count = field->is_repeated() ? reflection.FieldSize(at, field) : 1;
      for (int i = 0; i < count; ++i) {
        const int value =
            field->is_repeated() ? reflection.GetRepeatedEnumValue(at, field, i) : reflection.GetEnumValue(at, field);
        if (field->enum_type()->FindValueByNumber(value) != nullptr) continue;
        return absl::InvalidArgumentError(
            absl::StrCat(FieldPath(path, *field), ": is ", value, ", must be one of ", EnumNames(*field->enum_type())));
      }
    }
    return absl::OkStatus();
  });
}

void ResolveTrial(v1::Band::Trial& trial) {
  if (!trial.has_rows()) trial.set_rows(1);
  if (!trial.has_symbols()) trial.set_symbols(128);
  if (!trial.has_margin()) trial.set_margin(0.1);
  if (!trial.extrapolate()) trial.clear_extrapolate();
  if (trial.has_stages() && !trial.stages().has_first()) trial.mutable_stages()->set_first(32);
  if (trial.has_stages() && !trial.stages().has_margin()) trial.mutable_stages()->set_margin(0.015);
}

void ResolveDefaults(v1::Recipe& recipe) {
  for (v1::Family& family : *recipe.mutable_families()) {
    if (!family.has_weight()) family.set_weight(1);
    if (const FamilyEntry* entry = FindFamily(family.kind_case())) entry->resolve(family);
  }
  if (recipe.mix() == v1::Recipe::MIX_UNSPECIFIED) recipe.set_mix(v1::Recipe::SEGMENT);
  if (recipe.has_pool()) {
    PoolSettings::Resolve(*recipe.mutable_pool());
  } else {
    ChainSettings::Resolve(*recipe.mutable_chain());
  }
  if (recipe.relabel() == v1::Recipe::RELABEL_UNSPECIFIED) recipe.set_relabel(v1::Recipe::RELABEL_NONE);
  if (recipe.has_band()) {
    if (!recipe.band().has_low()) recipe.mutable_band()->set_low(0);
    if (!recipe.band().has_high()) recipe.mutable_band()->set_high(10);
    if (recipe.band().has_trial()) ResolveTrial(*recipe.mutable_band()->mutable_trial());
  }
  if (!recipe.has_distinct()) recipe.set_distinct(false);
  if (!recipe.has_length()) recipe.set_length(512);
  if (!recipe.has_vocab_size()) recipe.set_vocab_size(256);
  SequenceLayout::Resolve(recipe);
  if (!recipe.has_lanes()) recipe.set_lanes(recipe.has_pool() && recipe.pool().endless() ? 1 : 32);
  if (!recipe.has_segment_sequences()) recipe.set_segment_sequences(48);
  if (!recipe.has_starvation_rounds()) recipe.set_starvation_rounds(kDefaultStarvationRounds);
}

absl::Status CheckBand(const v1::Band& band) {
  if (!(band.low() >= 0 && band.low() <= band.high() && band.high() <= 10)) {
    return absl::InvalidArgumentError(
        absl::StrCat("band: is low ", band.low(), ", high ", band.high(), ", must have 0 <= low <= high <= 10"));
  }
  if (!band.has_trial()) return absl::OkStatus();
  const v1::Band::Trial& trial = band.trial();
  if (absl::Status s = CheckRange("band.trial.rows", trial.rows(), 1, ChainSettings::kMaxRows); !s.ok()) return s;
  if (absl::Status s = CheckRange("band.trial.symbols", trial.symbols(), kMinLength, kMaxLength); !s.ok()) return s;
  if (absl::Status s = CheckRange("band.trial.margin", trial.margin(), 0, 10); !s.ok()) return s;
  if (!trial.has_stages()) return absl::OkStatus();
  const v1::Band::Trial::Stages& stages = trial.stages();
  if (absl::Status s = CheckRange("band.trial.stages.first", stages.first(), kMinLength, kMaxLength); !s.ok()) return s;
  return CheckRange("band.trial.stages.margin", stages.margin(), 0, 10);
}

absl::Status CheckScalars(const v1::Recipe& recipe) {
  if (absl::Status s = CheckRange("lanes", recipe.lanes(), 1, kMaxLanes); !s.ok()) return s;
  if (absl::Status s = CheckRange("segment_sequences", recipe.segment_sequences(), 1, kMaxSegmentSequences); !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckRange("starvation_rounds", recipe.starvation_rounds(), 1, kMaxStarvationRounds); !s.ok()) {
    return s;
  }
  return recipe.has_band() ? CheckBand(recipe.band()) : absl::OkStatus();
}

absl::Status CheckFamilies(const v1::Recipe& recipe) {
  if (recipe.families().empty()) {
    return absl::InvalidArgumentError("families: is empty, must have at least one family");
  }
  double total = 0;
  for (int i = 0; i < recipe.families_size(); ++i) {
    const v1::Family& family = recipe.families(i);
    if (FindFamily(family.kind_case()) == nullptr) {
      std::vector<std::string> names;
      for (const FamilyEntry& entry : AllFamilies()) names.emplace_back(entry.name);
      return absl::InvalidArgumentError(
          absl::StrCat("families[", i, "]: names no family, must have one of ", absl::StrJoin(names, ", ")));
    }
    const std::string path = absl::StrCat("families[", i, "].weight");
    if (absl::Status status = CheckRange(path, family.weight(), 0, 1e6); !status.ok()) return status;
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
  if (recipe.families_size() > 0) {
    if (absl::Status s = CheckRange("families", recipe.families_size(), 1, kMaxFamilies, " entries"); !s.ok()) return s;
  }
  ResolveDefaults(recipe);
  const absl::StatusOr<SequenceLayout> layout = SequenceLayout::Make(recipe);
  if (!layout.ok()) return layout.status();
  if (absl::Status s = CheckScalars(recipe); !s.ok()) return s;
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
  // First, since what follows takes time and memory for each of them.
  if (recipe.families_size() > 0) {
    if (absl::Status s = CheckRange("families", recipe.families_size(), 1, kMaxFamilies, " entries"); !s.ok()) return s;
  }
  if (absl::Status s = CheckPartCount(recipe.mixture_size()); !s.ok()) return s;
  if (absl::Status s = CheckUnknown(recipe); !s.ok()) return s;
  return recipe.mixture().empty() ? ResolveSingle(recipe) : ResolveMixture(recipe, presets);
}

}  // namespace iterand
