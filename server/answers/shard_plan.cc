#include "server/answers/shard_plan.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "iterate/index_map.h"

namespace iterand {

absl::StatusOr<ShardPlan> PlanShard(const v1::Shard& shard, std::uint64_t start, const Stream& stream) {
  const std::uint64_t world_size = std::max<std::uint64_t>(shard.world_size(), 1);
  const std::uint64_t rank = shard.rank();
  const auto lanes = static_cast<std::uint64_t>(stream.lanes());
  if (rank >= world_size) {
    return InvalidField("shard.rank", absl::StrCat("shard.rank is ", rank, "; with shard.world_size ", world_size,
                                                   " it must be 0 to ", world_size - 1));
  }
  if (lanes % world_size != 0) {
    std::uint64_t below = std::min(world_size, lanes);
    while (lanes % below != 0) --below;
    std::uint64_t above = world_size;
    while (above < lanes && lanes % above != 0) ++above;
    std::string allowed = absl::StrCat(below);
    if (world_size < lanes) absl::StrAppend(&allowed, " and ", above);
    return InvalidField("shard.world_size",
                        absl::StrCat("shard.world_size is ", world_size, ", which does not divide the recipe's ", lanes,
                                     " lanes; nearest allowed: ", allowed,
                                     " (or a recipe whose lanes are a multiple of ", world_size, ")"));
  }
  const std::optional<std::uint64_t> first = FirstOfShard(start, rank, world_size);
  if (!first) {
    return WithReason(v1::INDEX_OUT_OF_RANGE,
                      absl::OutOfRangeError(absl::StrCat("start is ", start, ": shard ", rank, " of ", world_size,
                                                         " has no index from there to the last, 2^64 - 1")));
  }
  return ShardPlan{*first, world_size};
}

}  // namespace iterand
