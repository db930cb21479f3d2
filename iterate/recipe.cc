#include "iterate/recipe.h"

#include <google/protobuf/descriptor.h>
#include <openssl/sha.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "iterate/chain.h"
#include "iterate/iteration.h"
#include "iterate/layout.h"
#include "iterate/limits.h"
#include "iterate/pool.h"
#include "iterate/segment_writer.h"
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

// Fields and enum values that this build does not know, which came over the wire.
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
        std::vector<std::string> names;
        for (int n = 1; n < field->enum_type()->value_count(); ++n)
          names.push_back(field->enum_type()->value(n)->name());
        return absl::InvalidArgumentError(
            absl::StrCat(FieldPath(path, *field), ": is ", value, ", must be one of ", absl::StrJoin(names, ", ")));
      }
    }
    return absl::OkStatus();
  });
}

void AppendCanonical(const Message& message, const std::string& path, std::string& out);

void AppendValue(const Message& message, const FieldDescriptor& field, const std::string& path, std::string& out) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      AppendCanonical(reflection.GetMessage(message, &field), path, out);
      return;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      // + 0.0 makes one zero of the two.
      absl::StrAppendFormat(&out, "%s=%016x\n", path,
                            std::bit_cast<std::uint64_t>(reflection.GetDouble(message, &field) + 0.0));
      return;
    case FieldDescriptor::CPPTYPE_INT64:
      absl::StrAppend(&out, path, "=", reflection.GetInt64(message, &field), "\n");
      return;
    case FieldDescriptor::CPPTYPE_BOOL:
      absl::StrAppend(&out, path, "=", reflection.GetBool(message, &field) ? "true" : "false", "\n");
      return;
    case FieldDescriptor::CPPTYPE_ENUM:
      absl::StrAppend(&out, path, "=", reflection.GetEnum(message, &field)->name(), "\n");
      return;
    default:
      // The schema has no other types; adding one without a canonical form must not go unnoticed.
      absl::StrAppend(&out, path, "=?", field.type_name(), "\n");
  }
}

void AppendCanonical(const Message& message, const std::string& path, std::string& out) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  // A message that is there but empty must differ from one that is absent.
  if (fields.empty()) absl::StrAppend(&out, path, "={}\n");
  for (const FieldDescriptor* field : fields) {
    if (path.empty() && field->number() == v1::Recipe::kDescriptionFieldNumber) continue;
    const std::string below = FieldPath(path, *field);
    if (!field->is_repeated()) {
      AppendValue(message, *field, below, out);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      const std::string element = absl::StrCat(below, "[", i, "]");
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        AppendCanonical(reflection.GetRepeatedMessage(message, field, i), element, out);
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
        absl::StrAppend(&out, element, "=", reflection.GetRepeatedInt64(message, field, i), "\n");
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
        absl::StrAppend(&out, element, "=", reflection.GetRepeatedEnum(message, field, i)->name(), "\n");
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        absl::StrAppend(&out, element, "=\"", absl::CEscape(reflection.GetRepeatedString(message, field, i)), "\"\n");
      } else {
        absl::StrAppend(&out, element, "=?", field->type_name(), "\n");
      }
    }
  }
}

void ResolveDefaults(v1::Recipe& recipe) {
  for (v1::Family& family : *recipe.mutable_families()) {
    if (!family.has_weight()) family.set_weight(1);
    if (const FamilyEntry* entry = FindFamily(family.kind_case())) entry->resolve(family);
  }
  if (recipe.mix() == v1::Recipe::MIX_UNSPECIFIED) recipe.set_mix(v1::Recipe::SEGMENT);
  if (recipe.has_pool()) {
    Pool::Resolve(*recipe.mutable_pool());
  } else {
    Chain::Resolve(*recipe.mutable_chain());
  }
  if (recipe.relabel() == v1::Recipe::RELABEL_UNSPECIFIED) recipe.set_relabel(v1::Recipe::RELABEL_NONE);
  if (recipe.has_band()) {
    if (!recipe.band().has_low()) recipe.mutable_band()->set_low(0);
    if (!recipe.band().has_high()) recipe.mutable_band()->set_high(10);
    if (recipe.band().has_trial()) {
      v1::Band::Trial& trial = *recipe.mutable_band()->mutable_trial();
      if (!trial.has_rows()) trial.set_rows(1);
      if (!trial.has_symbols()) trial.set_symbols(128);
      if (!trial.has_margin()) trial.set_margin(0.1);
      if (!trial.extrapolate()) trial.clear_extrapolate();
      if (trial.has_stages() && !trial.stages().has_first()) trial.mutable_stages()->set_first(32);
      if (trial.has_stages() && !trial.stages().has_margin()) trial.mutable_stages()->set_margin(0.015);
    }
  }
  if (!recipe.has_distinct()) recipe.set_distinct(false);
  if (!recipe.has_length()) recipe.set_length(512);
  if (!recipe.has_vocab_size()) recipe.set_vocab_size(256);
  SequenceLayout::Resolve(recipe);
  if (!recipe.has_lanes()) recipe.set_lanes(recipe.has_pool() && recipe.pool().endless() ? 1 : 32);
  if (!recipe.has_segment_sequences()) recipe.set_segment_sequences(48);
  if (!recipe.has_starvation_rounds()) recipe.set_starvation_rounds(kDefaultStarvationRounds);
}

absl::Status CheckScalars(const v1::Recipe& recipe) {
  if (absl::Status s = SequenceLayout::Check(recipe); !s.ok()) return s;
  if (absl::Status s = CheckRange("lanes", recipe.lanes(), 1, kMaxLanes); !s.ok()) return s;
  if (absl::Status s = CheckRange("segment_sequences", recipe.segment_sequences(), 1, kMaxSegmentSequences); !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckRange("starvation_rounds", recipe.starvation_rounds(), 1, kMaxStarvationRounds); !s.ok()) {
    return s;
  }
  if (recipe.has_band()) {
    const v1::Band& band = recipe.band();
    if (!(band.low() >= 0 && band.low() <= band.high() && band.high() <= 10)) {
      return absl::InvalidArgumentError(
          absl::StrCat("band: is low ", band.low(), ", high ", band.high(), ", must have 0 <= low <= high <= 10"));
    }
    if (band.has_trial()) {
      const v1::Band::Trial& trial = band.trial();
      if (absl::Status s = CheckRange("band.trial.rows", trial.rows(), 1, Chain::kMaxRows); !s.ok()) return s;
      if (absl::Status s = CheckRange("band.trial.symbols", trial.symbols(), kMinLength, kMaxLength); !s.ok()) return s;
      if (absl::Status s = CheckRange("band.trial.margin", trial.margin(), 0, 10); !s.ok()) return s;
      if (trial.has_stages()) {
        const v1::Band::Trial::Stages& stages = trial.stages();
        if (absl::Status s = CheckRange("band.trial.stages.first", stages.first(), kMinLength, kMaxLength); !s.ok()) {
          return s;
        }
        if (absl::Status s = CheckRange("band.trial.stages.margin", stages.margin(), 0, 10); !s.ok()) return s;
      }
    }
  }
  return absl::OkStatus();
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

// Segments of all lanes and, of an endless pool, what its lanes keep.
absl::Status CheckStreamBytes(const v1::Recipe& recipe) {
  const double token_bytes = static_cast<double>(DtypeBytes(RecipeDtype(recipe))) + (recipe.loss_mask() ? 1 : 0);
  const auto sequences = static_cast<double>(recipe.segment_sequences());
  const auto lanes = static_cast<double>(recipe.lanes());
  const double tokens = sequences * static_cast<double>(recipe.length()) * token_bytes;
  if (tokens > kMaxSegmentBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "segment_sequences: is %d, which makes segments of %.0f bytes (segment_sequences x length x %.0f bytes); a "
        "segment may have at most %.0f bytes",
        recipe.segment_sequences(), tokens, token_bytes, kMaxSegmentBytes));
  }
  const double segment = tokens + sequences * sizeof(RowProvenance);
  if (segment * lanes > kMaxStreamBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "lanes: is %d, which holds %.0f bytes (lanes x segment of %.0f bytes, %d of them to tell where each sequence "
        "came from); a stream may hold at most %.0f bytes",
        recipe.lanes(), segment * lanes, segment, sizeof(RowProvenance), kMaxStreamBytes));
  }
  if (!recipe.has_pool()) return absl::OkStatus();
  const auto symbols = static_cast<double>(SequenceLayout(recipe).symbols());  // of a row
  const double pool = sizeof(Symbol) * static_cast<double>(recipe.pool().pool_rows()) * symbols;
  if (pool > kMaxPoolBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("pool.pool_rows: is %d, which makes a pool of %.0f bytes; a pool may have at most %.0f bytes",
                        recipe.pool().pool_rows(), pool, kMaxPoolBytes));
  }
  if (!recipe.pool().endless()) return absl::OkStatus();
  const double lane = EndlessLaneBytes(recipe);
  if (lane * lanes > kMaxStreamBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "pool.endless: is true with %d lanes, each of which keeps %.0f bytes (%d pools with the rows that wait, and %d "
        "segments); a stream may hold at most %.0f bytes: fewer pool_rows, fewer lanes, or endless false",
        recipe.lanes(), lane, kMaxSnapshots + kLivePools, kRecentSegments, kMaxStreamBytes));
  }
  return absl::OkStatus();
}

// Rows that a thread works on, beside programs.
double BlockBytes(const v1::Recipe& recipe) {
  return recipe.has_pool() ? Pool::RowBytes(recipe) : Chain::RowBytes(recipe);
}

// What one thread needs to make segments.
absl::Status CheckWorkspaceBytes(const v1::Recipe& recipe, const FamilyMix& mix) {
  const int rows = MaxProgramRows(recipe);
  double programs = 0;  // one of each family
  for (int i = 0; i < mix.size(); ++i) {
    const double bytes = mix.family(i).program_bytes(rows);
    if (bytes > kMaxProgramBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("families[%d].%s: a program of this size with %d rows needs %.0f bytes; a program may need "
                          "at most %.0f bytes",
                          i, mix.name(i), rows, bytes, kMaxProgramBytes));
    }
    programs += bytes;
    if (programs > kMaxProgramBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("families[%d].%s: with the families before it, programs of %d rows need %.0f bytes; one "
                          "program of each family may need at most %.0f bytes",
                          i, mix.name(i), rows, programs, kMaxProgramBytes));
    }
  }
  const double blocks = BlockBytes(recipe);
  const double seen = SegmentWriter::SeenBytes(recipe);
  if (programs + blocks + seen > kMaxWorkspaceBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: a thread needs %.0f bytes for the rows that it works on, %.0f for those that distinct compares and %.0f "
        "for programs; it may need at most %.0f together",
        seen > blocks       ? "distinct"
        : recipe.has_pool() ? "pool"
                            : "chain.rows",
        blocks, seen, programs, kMaxWorkspaceBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckSeconds(const v1::Recipe& recipe, const FamilyMix& mix) {
  const int most_rows = MaxProgramRows(recipe);
  const int fewest_rows = recipe.has_pool() ? most_rows : Chain::MinRows(recipe.chain());
  const auto sequences = static_cast<double>(recipe.segment_sequences());
  for (int i = 0; i < mix.size(); ++i) {
    const double round = mix.family(i).most_seconds(most_rows);
    if (round > kMaxRoundSeconds) {
      return absl::InvalidArgumentError(
          absl::StrFormat("families[%d].%s: a round of %d rows x %d symbols may take a core some %.3g seconds; it may "
                          "take at most %.3g",
                          i, mix.name(i), most_rows, SequenceLayout(recipe).symbols(), round, kMaxRoundSeconds));
    }
    // A band may let nothing through, which is known when so many rounds have passed. As many as by default may do so
    // in any recipe, more in one whose rounds are quick.
    const auto starving = static_cast<double>(recipe.starvation_rounds()) * round;
    if ((recipe.has_band() || recipe.distinct()) && recipe.starvation_rounds() > kDefaultStarvationRounds &&
        starving > kMaxSegmentSeconds) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "starvation_rounds: is %d, which may take a core some %.3g seconds that yield nothing, with families[%d].%s "
          "and rounds of %d rows; they may take at most %.3g, with these rounds: starvation_rounds at most %.0f",
          recipe.starvation_rounds(), starving, i, mix.name(i), most_rows, kMaxSegmentSeconds,
          std::max<double>(kDefaultStarvationRounds, std::floor(kMaxSegmentSeconds / round))));
    }
    for (const int rows : {fewest_rows, most_rows}) {
      const double rounds =
          recipe.has_pool() ? Pool::MostRounds(recipe.pool(), sequences) : std::ceil(sequences / rows);
      const double segment = rounds * mix.family(i).most_seconds(rows);
      if (segment > kMaxSegmentSeconds) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "segment_sequences: is %d, which may take a core some %.3g seconds with families[%d].%s (%.0f rounds of %d "
            "rows); a segment may take at most %.3g",
            recipe.segment_sequences(), segment, i, mix.name(i), rounds, rows, kMaxSegmentSeconds));
      }
    }
  }
  return absl::OkStatus();
}

// Memory and time that the whole recipe may ask for.
absl::Status CheckLimits(const v1::Recipe& recipe) {
  if (absl::Status s = CheckStreamBytes(recipe); !s.ok()) return s;
  auto mix = FamilyMix::Make(recipe);  // checks every family's own fields
  if (!mix.ok()) return mix.status();
  if (absl::Status s = CheckWorkspaceBytes(recipe, *mix); !s.ok()) return s;
  return CheckSeconds(recipe, *mix);
}

}  // namespace

double WorkspaceBytes(const v1::Recipe& resolved, const FamilyMix& mix) {
  double bytes = BlockBytes(resolved) + SegmentWriter::SeenBytes(resolved);
  for (int i = 0; i < mix.size(); ++i) bytes += mix.family(i).program_bytes(MaxProgramRows(resolved));
  return bytes;
}

double EndlessLaneBytes(const v1::Recipe& resolved) {
  const SequenceLayout layout(resolved);
  const double token_bytes = static_cast<double>(DtypeBytes(RecipeDtype(resolved))) + (resolved.loss_mask() ? 1 : 0);
  const auto sequences = static_cast<double>(resolved.segment_sequences());
  const double segment = sequences * (static_cast<double>(resolved.length()) * token_bytes + sizeof(RowProvenance));
  // Rows that were emitted wait for the next segment: fewer than a round emits are left by the last one, and the
  // vectors that a segment's gather in may be twice as large as they are.
  const double waiting =
      sizeof(Symbol) * static_cast<double>(layout.symbols()) + sizeof(RowOrigin) + sizeof(RowProvenance);
  const auto emitted = static_cast<double>(Pool::MostEmitted(resolved.pool()));
  const double kept = Pool::StateBytes(resolved) + emitted * waiting;
  return static_cast<double>(kMaxSnapshots + kLivePools) * kept + kLivePools * 2 * (sequences + emitted) * waiting +
         static_cast<double>(kRecentSegments) * segment;
}

absl::StatusOr<v1::Recipe> ResolveRecipe(const v1::Recipe& recipe) {
  if (recipe.ByteSizeLong() > kMaxRecipeJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("recipe: has ", recipe.ByteSizeLong(), " bytes, may have at most ", kMaxRecipeJsonBytes));
  }
  // First, since what follows takes time and memory for each of them.
  if (recipe.families_size() > 0) {
    if (absl::Status s = CheckRange("families", recipe.families_size(), 1, kMaxFamilies, " entries"); !s.ok()) return s;
  }
  if (absl::Status s = CheckUnknown(recipe); !s.ok()) return s;
  v1::Recipe resolved = recipe;
  ResolveDefaults(resolved);
  if (absl::Status s = CheckScalars(resolved); !s.ok()) return s;
  if (absl::Status s = CheckFamilies(resolved); !s.ok()) return s;
  if (resolved.has_pool()) {
    if (absl::Status s = Pool::Check(resolved.pool()); !s.ok()) return s;
    if (resolved.pool().endless() && (resolved.has_band() || resolved.distinct())) {
      return absl::InvalidArgumentError(
          absl::StrCat(resolved.has_band() ? "band" : "distinct",
                       ": an endless pool takes no filter; set pool.endless to false, or leave the filter out"));
    }
    // A pool emits rows of earlier rounds, whose programs are gone, and a program that is given up leaves it no rows.
    if (resolved.loss_mask() || resolved.band().has_trial()) {
      return absl::InvalidArgumentError(absl::StrCat(resolved.loss_mask() ? "loss_mask" : "band.trial",
                                                     ": is set, but a pool has none; use a chain, or leave it out"));
    }
  } else if (absl::Status s = Chain::Check(resolved.chain()); !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckLimits(resolved); !s.ok()) return s;
  return resolved;
}

std::string CanonicalText(const v1::Recipe& resolved) {
  std::string text;
  AppendCanonical(resolved, "", text);
  return text;
}

Fingerprint ComputeFingerprint(const v1::Recipe& resolved, std::uint64_t seed) {
  const std::string text =
      absl::StrCat("iterand\nengine_version=", kEngineVersion, "\nseed=", seed, "\n", CanonicalText(resolved));
  Fingerprint fingerprint;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), fingerprint.data());
  return fingerprint;
}

Dtype RecipeDtype(const v1::Recipe& resolved) {
  if (resolved.vocab_size() <= 256) return Dtype::kUint8;
  return resolved.vocab_size() <= 65536 ? Dtype::kUint16 : Dtype::kUint32;
}

}  // namespace iterand
