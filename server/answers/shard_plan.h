// The indices of one rank. Errors here carry their reason (common/rpc/error_info.h).
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/stream.h"

namespace iterand {

// The first index of a shard at or after `start`, and its stride. Errors: InvalidArgument if `rank` is not below
// `world_size`, or `world_size` does not divide the lanes (naming the nearest that would do); OutOfRange if no index is
// left.
struct ShardPlan {
  std::uint64_t first = 0;
  std::uint64_t stride = 1;
};
absl::StatusOr<ShardPlan> PlanShard(const v1::Shard& shard, std::uint64_t start, const Stream& stream);

}  // namespace iterand
