// What a client asks for, checked.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/stream.h"
#include "server/batch_builder.h"

namespace iterand {

// Errors here carry their reason (common/rpc/error_info.h).

// The first index of a shard at or after `start`, and its stride. Errors: InvalidArgument if `rank` is not below
// `world_size`, or `world_size` does not divide the lanes (naming the nearest that would do); OutOfRange if no index is
// left.
struct ShardPlan {
  std::uint64_t first = 0;
  std::uint64_t stride = 1;
};
absl::StatusOr<ShardPlan> PlanShard(const v1::Shard& shard, std::uint64_t start, const Stream& stream);

// InvalidArgument if `rows` is 0 or does not fit a message of max_batch_bytes, as `sizes` knows; `field` names it.
// ResourceExhausted if no row fits.
absl::Status CheckRows(const std::string& field, std::uint64_t rows, const BatchBuilder& sizes,
                       std::size_t max_batch_bytes);

}  // namespace iterand
