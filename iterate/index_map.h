// Index arithmetic: where the sequences of a stream are, and which of them a reader asks for.
//
//   lane    = index mod lanes
//   place   = index div lanes                  place in the lane
//   segment = place div segment_sequences      segment of the lane
//   offset  = place mod segment_sequences      place in the segment
//
// A reader takes the indices  first, first + stride, first + 2 stride, ...  Rank r of W readers takes the
// indices i with i mod W = r. All functions are exact for every index up to 2^64 - 1.
#pragma once

#include <cstdint>
#include <optional>

namespace iterand {

// Where an index is.
struct Position {
  std::uint32_t lane = 0;
  std::uint64_t segment = 0;
  std::uint32_t offset = 0;

  friend bool operator==(const Position&, const Position&) = default;
};

// How a reader of a given stride passes over the lanes. It reads `lanes` lanes in turn: its row i has the lane of its
// row i mod lanes. From one row of a lane to the reader's next row there, the place grows by `place_step`.
struct LaneCycle {
  std::uint64_t lanes = 1;
  std::uint64_t lane_step =
      1;  // the lanes that are read are those equal to one another modulo this: a divisor of lanes
  std::uint64_t place_step = 1;
};

// The lanes and segments of one stream. A value: two ints, cheap to copy.
class IndexMap {
 public:
  // Both at least 1, as in every resolved recipe.
  constexpr IndexMap(std::uint32_t lanes, std::uint32_t segment_sequences)
      : lanes_(lanes), sequences_(segment_sequences) {}

  constexpr std::uint32_t lanes() const { return lanes_; }
  constexpr std::uint32_t segment_sequences() const { return sequences_; }

  constexpr std::uint32_t Lane(std::uint64_t index) const { return static_cast<std::uint32_t>(index % lanes_); }
  constexpr std::uint64_t Place(std::uint64_t index) const { return index / lanes_; }
  constexpr std::uint64_t Segment(std::uint64_t place) const { return place / sequences_; }
  constexpr std::uint32_t Offset(std::uint64_t place) const { return static_cast<std::uint32_t>(place % sequences_); }

  constexpr Position Locate(std::uint64_t index) const {
    const std::uint64_t place = Place(index);
    return {.lane = Lane(index), .segment = Segment(place), .offset = Offset(place)};
  }

  // How a reader with this stride, at least 1, passes over the lanes.
  LaneCycle Cycle(std::uint64_t stride) const;

  // The smallest n for which place + n * step is in a segment after `segment`, which must not precede that of `place`;
  // step is at least 1. Nothing if n would exceed 2^64 - 1.
  std::optional<std::uint64_t> StepsBeyond(std::uint64_t segment, std::uint64_t place, std::uint64_t step) const;

 private:
  std::uint32_t lanes_;
  std::uint32_t sequences_;
};

// The first index at or after `start` that rank `rank` of `world_size` readers takes; its stride is `world_size`.
// Requires rank < world_size. Nothing if it would exceed 2^64 - 1.
std::optional<std::uint64_t> FirstOfShard(std::uint64_t start, std::uint64_t rank, std::uint64_t world_size);

// How many indices first, first + stride, ... there are up to 2^64 - 1; 2^64 - 1 if there are 2^64. Requires
// stride >= 1.
std::uint64_t IndicesLeft(std::uint64_t first, std::uint64_t stride);

// Whether the indices first + i * stride, i = 0 .. count - 1, are all at most 2^64 - 1. True for count 0.
bool IndicesExist(std::uint64_t first, std::uint64_t stride, std::uint64_t count);

}  // namespace iterand
