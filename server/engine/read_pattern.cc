#include "server/engine/read_pattern.h"

#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"

namespace iterand {

absl::StatusOr<ReadPattern> ReadPattern::Make(const Stream& stream, std::uint64_t first, std::uint64_t stride,
                                              std::uint64_t count) {
  if (!IndicesExist(first, stride, count)) {
    return WithReason(v1::INDEX_OUT_OF_RANGE, absl::OutOfRangeError(absl::StrCat(
                                                  "the ", count, " sequences from index ", first, " in steps of ",
                                                  stride, " go beyond the last index, 2^64 - 1")));
  }
  ReadPattern pattern;
  pattern.map_ = stream.index_map();
  pattern.first_ = first;
  pattern.stride_ = stride;
  pattern.count_ = count;
  const LaneCycle cycle = pattern.map_.Cycle(stride);
  pattern.common_ = cycle.lane_step;
  pattern.period_ = cycle.lanes;
  pattern.step_ = cycle.place_step;
  pattern.slots_ = std::min(pattern.period_, count);
  return pattern;
}

std::uint32_t ReadPattern::StripeLanes(std::uint64_t slot, std::uint64_t round) const {
  if (!striped()) return 1;
  const std::uint64_t before = std::uint64_t{offset(place(slot, round))} * slots_ + stripe_lane(slot);
  const std::uint64_t rows =
      std::min(segment_sequences() * slots_ - before, count_ - static_cast<std::uint64_t>(row(slot, round)));
  return rows < slots_ ? 1 : static_cast<std::uint32_t>(slots_);
}

double ReadPattern::SegmentsOfFirst(std::uint64_t rows) const {
  rows = std::min(rows, count_);
  const std::uint64_t slots = std::min(rows, slots_);
  if (slots == 0) return 0;
  const std::uint64_t most_rows = (rows + slots - 1) / slots;
  const auto rows_of_slot = static_cast<double>(most_rows);
  const double places = rows_of_slot * static_cast<double>(step_);
  const double segments = std::clamp(places / static_cast<double>(segment_sequences()), 1.0, rows_of_slot);
  return static_cast<double>(slots) * segments;
}

}  // namespace iterand
