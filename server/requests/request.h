// What a client asks for, checked.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/stream.h"

namespace iterand {

// The recipe that a stream's description names, with the length and the mask it asks for. Errors: InvalidArgument if
// there is no recipe or its JSON is broken, NotFound for an unknown preset.
absl::StatusOr<v1::Recipe> NamedRecipe(const v1::StreamSpec& spec);

// FailedPrecondition if the client expects another fingerprint, InvalidArgument if what it expects is not one.
absl::Status CheckFingerprint(const v1::StreamSpec& spec, const Stream& stream);

// The first index of a shard at or after `start`, and its stride. Errors: InvalidArgument if `rank` is not below
// `world_size`, or `world_size` does not divide the lanes (naming the nearest that would do); OutOfRange if no index is
// left.
struct ShardPlan {
  std::uint64_t first = 0;
  std::uint64_t stride = 1;
};
absl::StatusOr<ShardPlan> PlanShard(const v1::Shard& shard, std::uint64_t start, const Stream& stream);

}  // namespace iterand
