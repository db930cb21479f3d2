#include "iterate/resolve_mixture.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/shorten.h"
#include "iterate/limits.h"
#include "iterate/mixture.h"
#include "randnet/settings.h"

namespace iterand {
namespace {

using google::protobuf::FieldDescriptor;

constexpr char kWholeStream[] = "length, vocab_size, lanes, segment_sequences, marks and loss_mask";

// The fields of the whole stream.
constexpr std::array<int, 6> kWholeStreamFields = {
    v1::Recipe::kLengthFieldNumber,           v1::Recipe::kVocabSizeFieldNumber, v1::Recipe::kLanesFieldNumber,
    v1::Recipe::kSegmentSequencesFieldNumber, v1::Recipe::kMarksFieldNumber,     v1::Recipe::kLossMaskFieldNumber,
};

// Whether a field may be given beside a mixture.
bool IsBesideMixture(const FieldDescriptor& field) {
  if (field.number() == v1::Recipe::kDescriptionFieldNumber) return true;
  if (field.number() == v1::Recipe::kMixtureFieldNumber) return true;
  return std::find(kWholeStreamFields.begin(), kWholeStreamFields.end(), field.number()) != kWholeStreamFields.end();
}

absl::Status CheckBesideMixture(const v1::Recipe& recipe) {
  std::vector<const FieldDescriptor*> fields;
  recipe.GetReflection()->ListFields(recipe, &fields);
  for (const FieldDescriptor* field : fields) {
    if (IsBesideMixture(*field)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        field->name(), ": is given beside mixture, but belongs to the recipe of a part, such as mixture[0].recipe.",
        field->name(), "; fields of the whole stream are ", kWholeStream));
  }
  return absl::OkStatus();
}

// Writes out the defaults of the fields of the whole stream.
void ResolveWholeStream(v1::Recipe& recipe) {
  for (const int field : kWholeStreamFields) WriteDefault(recipe, field);
  if (!recipe.has_lanes()) recipe.set_lanes(kDefaultLanes);
  if (recipe.has_marks() && recipe.marks().ByteSizeLong() == 0) recipe.clear_marks();  // as SequenceLayout does
}

absl::Status CheckName(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 && byte != 0x7F && c != '/';
  });
  if (plain && !name.empty() && name.size() <= kMaxPartNameBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("name: has ", name.size(), " bytes, must have 1 to ",
                                                 kMaxPartNameBytes, ", without / and control characters"));
}

// Gives a name to each part that has none: that of its preset or "part", with a number if another part has it.
absl::Status ResolveNames(v1::Recipe& recipe, const std::vector<std::string>& presets) {
  std::set<std::string> names;
  for (int i = 0; i < recipe.mixture_size(); ++i) {
    const v1::Part& part = recipe.mixture(i);
    if (!part.has_name()) continue;
    const std::string path = absl::StrCat("mixture[", i, "].");
    if (absl::Status s = CheckName(part.name()); !s.ok()) return AtPath(path, s);
    if (names.insert(part.name()).second) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, "name: is also the name of another part, must be unique in its mixture"));
  }
  for (int i = 0; i < recipe.mixture_size(); ++i) {
    v1::Part& part = *recipe.mutable_mixture(i);
    if (part.has_name()) continue;
    const std::string& preset = presets[static_cast<std::size_t>(i)];
    std::string name = preset.empty() ? absl::StrCat("part-", i) : preset;
    while (!names.insert(name).second) absl::StrAppend(&name, "-", i);
    part.set_name(name);
  }
  return absl::OkStatus();
}

// At every index some weight must be positive. Weights are linear between the indices that are looked at.
absl::Status CheckWeights(const std::vector<ResolvedPart>& parts) {
  std::vector<std::uint64_t> indices = {0};
  for (const ResolvedPart& part : parts) part.weight.AppendTurns(indices);
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  std::vector<double> sums(indices.size());
  for (const ResolvedPart& part : parts) part.weight.AddAt(indices, sums);
  const auto none = std::find(sums.begin(), sums.end(), 0.0);
  if (none == sums.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("mixture: all weights are 0 at index ",
                                                 indices[static_cast<std::size_t>(none - sums.begin())],
                                                 ", at least one must be positive at every index"));
}

absl::Status SaysOtherwise(const std::string& field, const std::string& said, const std::string& whole) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": is ", said, ", but that of the whole stream is ", whole,
                                                 "; leave it out of the part (", kWholeStream,
                                                 " belong to the outermost recipe)"));
}

std::string MarksText(const v1::Recipe& recipe) {
  return recipe.has_marks() ? absl::StrCat("{", recipe.marks().ShortDebugString(), "}") : "none";
}

// Gives the recipe of a part what belongs to the whole stream. Errors if the part says otherwise.
absl::Status TakeWholeStream(const v1::Recipe& whole, v1::Recipe& recipe) {
  const auto same = [](const std::string& field, bool has, std::int64_t said, std::int64_t of_whole) {
    if (!has || said == of_whole) return absl::OkStatus();
    return SaysOtherwise(field, absl::StrCat(said), absl::StrCat(of_whole));
  };
  if (absl::Status s = same("length", recipe.has_length(), recipe.length(), whole.length()); !s.ok()) return s;
  if (absl::Status s = same("vocab_size", recipe.has_vocab_size(), recipe.vocab_size(), whole.vocab_size()); !s.ok()) {
    return s;
  }
  if (absl::Status s = same("lanes", recipe.has_lanes(), recipe.lanes(), whole.lanes()); !s.ok()) return s;
  if (absl::Status s = same("segment_sequences", recipe.has_segment_sequences(), recipe.segment_sequences(),
                            whole.segment_sequences());
      !s.ok()) {
    return s;
  }
  if (recipe.has_loss_mask() && recipe.loss_mask() != whole.loss_mask()) {
    return SaysOtherwise("loss_mask", recipe.loss_mask() ? "true" : "false", whole.loss_mask() ? "true" : "false");
  }
  if (recipe.has_marks()) {
    v1::Recipe marked = recipe;
    ResolveWholeStream(marked);
    if (MarksText(marked) != MarksText(whole)) return SaysOtherwise("marks", MarksText(marked), MarksText(whole));
  }
  recipe.set_length(whole.length());
  recipe.set_vocab_size(whole.vocab_size());
  recipe.set_lanes(whole.lanes());
  recipe.set_segment_sequences(whole.segment_sequences());
  recipe.clear_marks();
  if (whole.has_marks()) *recipe.mutable_marks() = whole.marks();
  recipe.clear_loss_mask();
  if (whole.loss_mask()) recipe.set_loss_mask(true);
  return absl::OkStatus();
}

// An endless pool cannot be a part.
absl::Status CheckNotEndless(const v1::Recipe& recipe) {
  if (!recipe.has_pool() || !recipe.mixture().empty()) return absl::OkStatus();
  v1::Pool pool = recipe.pool();
  WriteDefault(pool, v1::Pool::kEndlessFieldNumber);
  if (!pool.endless()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "pool.endless: is true, but an endless pool is one process per lane, of which a part would have stretches with "
      "gaps; use a recipe with pool.endless false, whose segments each begin with a fresh pool, or a chain");
}

void DropWholeStream(v1::Recipe& recipe) {
  recipe.clear_length();
  recipe.clear_vocab_size();
  recipe.clear_lanes();
  recipe.clear_segment_sequences();
  recipe.clear_marks();
  recipe.clear_loss_mask();
}

}  // namespace

// Resolves one recipe with all that is in it.
class MixtureResolver {
 public:
  explicit MixtureResolver(const PresetLoader& presets) : load_(presets) {}

  // A recipe with a mixture, in `depth` mixtures.
  absl::StatusOr<ResolvedRecipe> Resolve(v1::Recipe recipe, int depth);

 private:
  // The recipe of a part, from its preset if it has one.
  absl::StatusOr<v1::Recipe> SourceOf(const v1::Part& part);
  // Resolves a part of `whole`, and writes it out in `part`.
  absl::StatusOr<ResolvedPart> ResolvePart(const v1::Recipe& whole, v1::Part& part, int depth);
  absl::StatusOr<ResolvedRecipe> ResolveSource(v1::Recipe recipe, int depth);

  const PresetLoader& load_;
  std::vector<std::string> open_presets_;  // from the outermost to the one at hand
  int parts_ = 0;                          // that are no mixtures, so far
  int families_ = 0;                       // in these
  int points_ = 0;                         // of all weights, so far
};

absl::StatusOr<v1::Recipe> MixtureResolver::SourceOf(const v1::Part& part) {
  if (part.has_recipe()) return part.recipe();
  if (!part.has_preset()) {
    return absl::InvalidArgumentError(
        R"(has neither preset nor recipe, must have one of them, such as "preset": "markov")");
  }
  if (std::find(open_presets_.begin(), open_presets_.end(), part.preset()) != open_presets_.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "preset: presets contain each other: ", absl::StrJoin(open_presets_, " > "), " > ", part.preset()));
  }
  absl::StatusOr<v1::Recipe> recipe = load_(part.preset());
  if (!recipe.ok()) return absl::InvalidArgumentError(recipe.status().message());
  return recipe;
}

absl::StatusOr<ResolvedRecipe> MixtureResolver::ResolveSource(v1::Recipe recipe, int depth) {
  if (!recipe.mixture().empty()) return Resolve(std::move(recipe), depth + 1);
  absl::StatusOr<ResolvedRecipe> resolved = ResolveSingle(std::move(recipe));
  if (!resolved.ok()) return resolved;
  if (absl::Status s = CheckPartCount(++parts_); !s.ok()) return s;
  families_ += resolved->proto().families_size();
  if (families_ > kMaxMixtureFamilies) {
    return absl::InvalidArgumentError(absl::StrCat("families: with those of the parts before it there are ", families_,
                                                   ", a mixture may have at most ", kMaxMixtureFamilies));
  }
  return resolved;
}

absl::StatusOr<ResolvedPart> MixtureResolver::ResolvePart(const v1::Recipe& whole, v1::Part& part, int depth) {
  if (absl::Status s = CheckFields(part.weight(), ".weight"); !s.ok()) return s;
  Schedule::ComputeDefaults(*part.mutable_weight());
  absl::StatusOr<Schedule> weight = Schedule::Make(part.weight(), "weight");
  if (!weight.ok()) return AtPath(".", weight.status());
  points_ += weight->points();
  if (points_ > kMaxMixturePoints) {
    return absl::InvalidArgumentError(absl::StrCat(".weight.points: with those of the parts before it there are ",
                                                   points_, ", a mixture may have at most ", kMaxMixturePoints));
  }
  absl::StatusOr<v1::Recipe> recipe = SourceOf(part);
  if (!recipe.ok()) return AtPath(part.has_preset() ? "." : ": ", recipe.status());
  const std::string preset = part.preset();
  const std::string source = preset.empty() ? ".recipe." : absl::StrCat(".preset \"", Shorten(preset, 60), "\": ");
  if (absl::Status s = CheckNotEndless(*recipe); !s.ok()) return AtPath(source, s);
  if (absl::Status s = TakeWholeStream(whole, *recipe); !s.ok()) return AtPath(source, s);
  if (!preset.empty()) open_presets_.push_back(preset);
  absl::StatusOr<ResolvedRecipe> resolved = ResolveSource(*std::move(recipe), depth);
  if (!resolved.ok()) return AtPath(source, resolved.status());
  if (!preset.empty()) open_presets_.pop_back();
  *part.mutable_recipe() = resolved->proto();  // in place of the preset
  DropWholeStream(*part.mutable_recipe());
  return ResolvedPart{.source = source, .weight = *std::move(weight), .recipe = *std::move(resolved)};
}

absl::StatusOr<ResolvedRecipe> MixtureResolver::Resolve(v1::Recipe recipe, int depth) {
  if (depth > kMaxMixtureDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("mixture: is in ", depth - 1, " mixtures, may be in at most ", kMaxMixtureDepth - 1));
  }
  if (absl::Status s = CheckPartCount(recipe.mixture_size()); !s.ok()) return s;
  if (absl::Status s = CheckBesideMixture(recipe); !s.ok()) return s;
  ResolveWholeStream(recipe);
  for (const int field : kWholeStreamFields) {
    if (absl::Status s = CheckField(recipe, field); !s.ok()) return s;
  }
  v1::Recipe any = recipe;  // with an alphabet and without relabelling, for the layout
  any.clear_mixture();
  any.set_relabel(v1::Recipe::RELABEL_NONE);
  SequenceLayout::ComputeDefaults(any);
  const absl::StatusOr<SequenceLayout> layout = SequenceLayout::Make(any);
  if (!layout.ok()) return layout.status();
  std::vector<ResolvedPart> parts;
  std::vector<std::string> presets;
  for (int i = 0; i < recipe.mixture_size(); ++i) {
    v1::Part& part = *recipe.mutable_mixture(i);
    presets.push_back(part.preset());
    absl::StatusOr<ResolvedPart> resolved = ResolvePart(any, part, depth);
    if (!resolved.ok()) return AtPath(absl::StrCat("mixture[", i, "]"), resolved.status());
    parts.push_back(*std::move(resolved));
  }
  if (absl::Status s = ResolveNames(recipe, presets); !s.ok()) return s;
  if (absl::Status s = CheckWeights(parts); !s.ok()) return s;
  ResolvedRecipe resolved(std::move(recipe), *layout, {});
  resolved.parts_ = std::move(parts);
  return resolved;
}

absl::StatusOr<ResolvedRecipe> ResolveMixture(v1::Recipe recipe, const PresetLoader& presets) {
  return MixtureResolver(presets).Resolve(std::move(recipe), 1);
}

absl::Status CheckPartCount(int parts) {
  if (parts <= MaxParts()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("mixture: has ", parts, " parts, may have at most ", MaxParts(),
                                                 ", those of nested mixtures included"));
}

}  // namespace iterand
