#include "server/requests/request.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "iterate/index_map.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"

namespace iterand {

absl::StatusOr<v1::Recipe> NamedRecipe(const v1::StreamSpec& spec) {
  absl::StatusOr<v1::Recipe> recipe;
  switch (spec.recipe_source_case()) {
    case v1::StreamSpec::kPreset:
      recipe = LoadPreset(spec.preset());
      break;
    case v1::StreamSpec::kRecipeJson:
      recipe = ParseRecipeJson(spec.recipe_json());
      break;
    case v1::StreamSpec::kRecipe:
      recipe = spec.recipe();
      break;
    case v1::StreamSpec::RECIPE_SOURCE_NOT_SET:
      return absl::InvalidArgumentError(absl::StrCat("stream names no recipe: give one of preset (such as \"",
                                                     std::string(kDefaultPreset), "\"), recipe_json and recipe"));
  }
  if (!recipe.ok()) return recipe.status();
  if (spec.has_length()) recipe->set_length(spec.length());
  if (spec.has_loss_mask()) recipe->set_loss_mask(spec.loss_mask());
  return recipe;
}

absl::Status CheckFingerprint(const v1::StreamSpec& spec, const Stream& stream) {
  if (!spec.has_expected_fingerprint()) return absl::OkStatus();
  const std::string& expected = spec.expected_fingerprint();
  const Fingerprint& actual = stream.fingerprint();
  if (expected.size() != actual.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("stream.expected_fingerprint has ", expected.size(), " bytes; a fingerprint has ", actual.size()));
  }
  if (std::memcmp(expected.data(), actual.data(), actual.size()) == 0) return absl::OkStatus();
  const std::string recipe =
      spec.has_preset() ? absl::StrCat("preset \"", spec.preset(), "\"") : std::string("the given recipe");
  return absl::FailedPreconditionError(absl::StrCat(
      "stream.expected_fingerprint is ", absl::BytesToHexString(expected), ", but ", recipe, " with seed ",
      stream.seed(), " and length ", stream.length(), " has ", ToHex(actual), " in engine version ", kEngineVersion,
      ": a cursor goes on only with the recipe, seed, length and engine version it was made with"));
}

absl::StatusOr<ShardPlan> PlanShard(const v1::Shard& shard, std::uint64_t start, const Stream& stream) {
  const std::uint64_t world_size = std::max<std::uint64_t>(shard.world_size(), 1);
  const std::uint64_t rank = shard.rank();
  const auto lanes = static_cast<std::uint64_t>(stream.lanes());
  if (rank >= world_size) {
    return absl::InvalidArgumentError(absl::StrCat("shard.rank is ", rank, "; with shard.world_size ", world_size,
                                                   " it must be 0 to ", world_size - 1));
  }
  if (lanes % world_size != 0) {
    std::uint64_t below = std::min(world_size, lanes);
    while (lanes % below != 0) --below;
    std::uint64_t above = world_size;
    while (above < lanes && lanes % above != 0) ++above;
    std::string allowed = absl::StrCat(below);
    if (world_size < lanes) absl::StrAppend(&allowed, " and ", above);
    return absl::InvalidArgumentError(absl::StrCat(
        "shard.world_size is ", world_size, ", which does not divide the recipe's ", lanes,
        " lanes; nearest allowed: ", allowed, " (or a recipe whose lanes are a multiple of ", world_size, ")"));
  }
  const std::optional<std::uint64_t> first = FirstOfShard(start, rank, world_size);
  if (!first) {
    return absl::OutOfRangeError(absl::StrCat("start is ", start, ": shard ", rank, " of ", world_size,
                                              " has no index from there to the last, 2^64 - 1"));
  }
  return ShardPlan{*first, world_size};
}

}  // namespace iterand
