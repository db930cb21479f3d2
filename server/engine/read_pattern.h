// ReadPattern: the lanes and segments of the rows of an arithmetic progression of indices.
//
// Row i of the progression is the index first + i * stride. Its rows pass through slots() lanes in turn: row i is row
// i div slots() of slot i mod slots(), and every slot reads one lane, in steps of step() places. (iterate/index_map.h
// defines lanes, places and segments.)
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "iterate/index_map.h"
#include "iterate/stream.h"

namespace iterand {

class ReadPattern {
 public:
  __extension__ using Wide = unsigned __int128;

  ReadPattern() = default;

  // The `count` rows first, first + stride, ... Errors: OutOfRange if an index exceeds 2^64 - 1.
  static absl::StatusOr<ReadPattern> Make(const Stream& stream, std::uint64_t first, std::uint64_t stride,
                                          std::uint64_t count);

  std::uint64_t first() const { return first_; }
  std::uint64_t stride() const { return stride_; }
  std::uint64_t count() const { return count_; }
  std::uint64_t slots() const { return slots_; }
  std::uint64_t step() const { return step_; }  // places from row to row of a slot
  std::uint64_t segment_sequences() const { return map_.segment_sequences(); }

  std::uint32_t lane(std::uint64_t slot) const { return map_.Lane(first_ + slot * stride_); }
  // The place of row `round` of a slot.
  std::uint64_t place(std::uint64_t slot, std::uint64_t round) const {
    return map_.Place(first_ + slot * stride_) + round * step_;
  }
  std::uint64_t segment(std::uint64_t slot, std::uint64_t round) const { return map_.Segment(place(slot, round)); }
  std::uint32_t offset(std::uint64_t place) const { return map_.Offset(place); }

  // The first row of a slot, counted in the slot, that is after `segment`.
  Wide RoundAfter(std::uint64_t slot, std::uint64_t segment) const {
    const std::optional<std::uint64_t> steps = map_.StepsBeyond(segment, place(slot, 0), step_);
    return steps ? Wide{*steps} : Wide{1} << 64;
  }
  // Row `round` of a slot, counted in the progression.
  Wide row(std::uint64_t slot, Wide round) const { return round * slots_ + slot; }

  // Segments that must be held at a time. If each row of a slot is in another segment than the one before, a segment is
  // released at once. Otherwise one segment of each slot is in use.
  std::uint64_t segments_in_use() const { return count_ <= period_ || step_ >= segment_sequences() ? 1 : period_; }

  // Whether the rows take places one by one in several lanes, long enough for stripes.
  bool striped() const { return step_ == 1 && segments_in_use() > 1 && Wide{period_} * segment_sequences() <= count_; }
  // The place of a slot's lane among the lanes that are read: its place in a stripe.
  std::uint32_t stripe_lane(std::uint64_t slot) const { return static_cast<std::uint32_t>(lane(slot) / common_); }
  // Width, in lanes, of the stripe to allocate for the segment that row `round` of a slot begins: the first one of its
  // number. If the rows that follow in the segments of this number are fewer than the lanes, some lanes are not read.
  std::uint32_t StripeLanes(std::uint64_t slot, std::uint64_t round) const;

  // Number of segments that the first `rows` rows are in.
  double SegmentsOfFirst(std::uint64_t rows) const;

 private:
  IndexMap map_{1, 1};
  std::uint64_t first_ = 0;
  std::uint64_t stride_ = 1;
  std::uint64_t count_ = 0;
  std::uint64_t common_ = 1;  // lanes from one to the next of those that are read
  std::uint64_t period_ = 1;  // lanes that are read
  std::uint64_t step_ = 1;
  std::uint64_t slots_ = 0;  // period, or fewer if there are fewer rows
};

}  // namespace iterand
