#include "server/request.h"

#include <algorithm>
#include <optional>

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

absl::Status CheckRows(const std::string& field, std::uint64_t rows, const BatchBuilder& sizes,
                       std::size_t max_batch_bytes) {
  const std::uint64_t max_rows = sizes.MaxRows(max_batch_bytes);
  if (max_rows == 0) {
    const std::string message =
        absl::StrCat("a batch of one sequence of this recipe takes up to ", sizes.MessageBytes(1), " bytes, ",
                     sizes.RowParts(), " and a header; this server sends at most ", max_batch_bytes, " bytes a batch");
    return WithReason(v1::STREAM_TOO_LARGE, absl::ResourceExhaustedError(message),
                      {{"limit", absl::StrCat(max_batch_bytes)}});
  }
  if (rows == 0) return InvalidField(field, absl::StrCat(field, " is 0; it must be 1 to ", max_rows));
  if (rows > max_rows) {
    return InvalidField(
        field, absl::StrCat(field, " is ", rows, ": of sequences of ", sizes.RowParts(), ", at most ", max_rows,
                            " fit a batch of ", max_batch_bytes, " bytes, the limit of this server"));
  }
  return absl::OkStatus();
}

}  // namespace iterand
