#include "iterate/index_map.h"

#include <limits>
#include <numeric>

namespace iterand {
namespace {

constexpr std::uint64_t kLastIndex = std::numeric_limits<std::uint64_t>::max();

__extension__ using Wide = unsigned __int128;

}  // namespace

LaneCycle IndexMap::Cycle(std::uint64_t stride) const {
  const std::uint64_t common = std::gcd(stride, std::uint64_t{lanes_});
  return {.lanes = lanes_ / common, .lane_step = common, .place_step = stride / common};
}

std::optional<std::uint64_t> IndexMap::StepsBeyond(std::uint64_t segment, std::uint64_t place,
                                                   std::uint64_t step) const {
  const Wide target = (Wide{segment} + 1) * sequences_;  // the first place after the segment
  const Wide steps = (target - place + step - 1) / step;
  if (steps > kLastIndex) return std::nullopt;
  return static_cast<std::uint64_t>(steps);
}

std::optional<std::uint64_t> FirstOfShard(std::uint64_t start, std::uint64_t rank, std::uint64_t world_size) {
  const std::uint64_t at = start % world_size;
  const std::uint64_t skip = rank >= at ? rank - at : rank + (world_size - at);  // below world_size: cannot overflow
  if (skip > kLastIndex - start) return std::nullopt;
  return start + skip;
}

std::uint64_t IndicesLeft(std::uint64_t first, std::uint64_t stride) {
  const std::uint64_t more = (kLastIndex - first) / stride;
  return more == kLastIndex ? more : more + 1;
}

bool IndicesExist(std::uint64_t first, std::uint64_t stride, std::uint64_t count) {
  return count == 0 || stride == 0 || count - 1 <= (kLastIndex - first) / stride;
}

}  // namespace iterand
