#include "server/answers/describe.h"

#include <string>

#include "absl/status/statusor.h"
#include "iterate/plan.h"
#include "iterate/presets.h"
#include "iterate/recipe.h"
#include "iterate/recipe_json.h"
#include "randnet/family.h"

namespace iterand {
namespace {

v1::Recipe ResolvedAsAsked(const Stream& stream, const v1::Recipe& asked) {
  const absl::StatusOr<ResolvedRecipe> resolved = ResolveRecipe(asked);
  return resolved.ok() ? resolved->proto() : stream.recipe();  // it is, since the stream was opened by it
}

}  // namespace

v1::Dtype ToProto(Dtype dtype) {
  switch (dtype) {
    case Dtype::kUint8:
      return v1::DTYPE_UINT8;
    case Dtype::kUint16:
      return v1::DTYPE_UINT16;
    case Dtype::kUint32:
      return v1::DTYPE_UINT32;
  }
  return v1::DTYPE_UNSPECIFIED;
}

void DescribeServer(v1::DescribeResponse& response) {
  response.set_engine_version(kEngineVersion);
  for (const PresetEntry& entry : AllPresets()) {
    v1::Preset& preset = *response.add_presets();
    preset.set_name(std::string(entry.name));
    if (const absl::StatusOr<v1::Recipe> recipe = LoadPreset(entry.name); recipe.ok()) {
      preset.set_description(recipe->description());
    }
  }
  for (const FamilyEntry& entry : AllFamilies()) {
    v1::FamilyInfo& family = *response.add_families();
    family.set_name(std::string(entry.name));
    family.set_summary(std::string(entry.summary));
    v1::Family config;
    entry.Resolve(config);
    if (const auto made = entry.Make(config, FamilyContext{}, std::string(entry.name)); made.ok()) {
      family.set_reads_input((*made)->reads_input());
    }
  }
}

void DescribeStream(const Stream& stream, const v1::Recipe& asked, std::uint64_t at, v1::StreamInfo& info) {
  v1::Recipe& recipe = *info.mutable_recipe();
  recipe = ResolvedAsAsked(stream, asked);
  info.set_recipe_json(RecipeToJson(recipe));
  info.set_seed(stream.seed());
  info.set_fingerprint(stream.fingerprint().data(), stream.fingerprint().size());
  info.set_dtype(ToProto(stream.dtype()));
  const StreamCost cost = stream.Cost();
  const MixturePlan* const mixture = stream.plan().mixture();
  const double flops = mixture != nullptr ? MixtureFlops(*mixture, at) : cost.flops_per_token;
  info.mutable_cost()->set_flops_per_token(flops);
  info.mutable_cost()->set_segment_bytes(cost.segment_bytes);
  info.mutable_cost()->set_first_batch_sequences(cost.first_batch_sequences);
  if (mixture == nullptr) return;
  const std::vector<std::string> names = PartNames(recipe);
  std::vector<double> shares;
  mixture->Shares(at, shares);
  for (std::size_t i = 0; i < shares.size(); ++i) {
    v1::PartInfo& part = *info.add_parts();
    part.set_name(names[i]);
    part.set_share(shares[i]);
    part.set_flops_per_token(mixture->part(static_cast<int>(i)).cost().flops_per_token);
  }
}

std::vector<std::string> AskedPartNames(const Stream& stream, const v1::Recipe& asked) {
  if (stream.plan().mixture() == nullptr) return {};
  return PartNames(ResolvedAsAsked(stream, asked));
}

}  // namespace iterand
