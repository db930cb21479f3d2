#include "iterate/index_map.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace iterand {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();

// Numbers at both ends of the range, around powers of two, and random ones of every magnitude.
std::vector<std::uint64_t> Numbers(int random) {
  std::vector<std::uint64_t> numbers = {0, 1, 2, 3, 5, 47, 48, 49, 1000003, kLast - 48, kLast - 2, kLast - 1, kLast};
  for (int bit = 8; bit < 64; bit += 11) {
    const std::uint64_t power = std::uint64_t{1} << bit;
    numbers.insert(numbers.end(), {power - 1, power, power + 1});
  }
  std::mt19937_64 generator(7);
  for (int i = 0; i < random; ++i) numbers.push_back(generator() >> (generator() % 64));
  return numbers;
}

std::vector<IndexMap> Maps() { return {{1, 1}, {1, 48}, {32, 48}, {32, 1}, {7, 5}, {4096, 65536}, {24, 36}}; }

TEST(IndexMap, LocatesEveryIndex) {
  for (const IndexMap& map : Maps()) {
    for (const std::uint64_t index : Numbers(200)) {
      const Position at = map.Locate(index);
      EXPECT_LT(at.lane, map.lanes());
      EXPECT_LT(at.offset, map.segment_sequences());
      const Wide place = Wide{at.segment} * map.segment_sequences() + at.offset;
      EXPECT_TRUE(place * map.lanes() + at.lane == index) << index;
      EXPECT_TRUE(place == map.Place(index)) << index;
    }
  }
}

// Rows of a reader, found by Locate alone, against the cycle.
TEST(IndexMap, CycleTellsLaneAndPlaceOfEveryRow) {
  for (const IndexMap& map : Maps()) {
    for (const std::uint64_t stride : Numbers(60)) {
      if (stride == 0) continue;
      const LaneCycle cycle = map.Cycle(stride);
      ASSERT_EQ(map.lanes() % cycle.lane_step, 0U);
      ASSERT_EQ(map.lanes() / cycle.lane_step, cycle.lanes);
      for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{12345}, kLast / 2}) {
        for (const std::uint64_t row : {std::uint64_t{0}, std::uint64_t{1}, cycle.lanes - 1, cycle.lanes + 3}) {
          const Wide index = Wide{first} + Wide{row} * stride;
          const Wide later = index + Wide{cycle.lanes} * stride;  // one round later
          if (later > kLast) continue;
          const auto a = static_cast<std::uint64_t>(index);
          const auto b = static_cast<std::uint64_t>(later);
          EXPECT_EQ(map.Lane(a), map.Lane(b));
          EXPECT_TRUE(Wide{map.Place(a)} + cycle.place_step == map.Place(b)) << a << " + " << stride;
          EXPECT_EQ(map.Lane(a) % cycle.lane_step, first % cycle.lane_step);
        }
      }
    }
  }
}

TEST(IndexMap, TheRowsOfACycleHaveDifferentLanes) {
  for (const IndexMap& map : Maps()) {
    for (std::uint64_t stride = 1; stride < 100; ++stride) {
      std::vector<bool> seen(map.lanes());
      for (std::uint64_t row = 0; row < map.Cycle(stride).lanes; ++row) {
        ASSERT_FALSE(seen[map.Lane(17 + row * stride)]) << stride;
        seen[map.Lane(17 + row * stride)] = true;
      }
    }
  }
}

TEST(IndexMap, StepsBeyondASegment) {
  for (const IndexMap& map : Maps()) {
    for (const std::uint64_t place : Numbers(30)) {
      for (const std::uint64_t step : Numbers(10)) {
        if (step == 0) continue;
        for (const std::uint64_t further : {0, 1, 1000}) {
          const Wide segment = Wide{map.Segment(place)} + further;
          if (segment > kLast) continue;
          const Wide bound = (segment + 1) * map.segment_sequences();
          const std::optional<std::uint64_t> steps = map.StepsBeyond(static_cast<std::uint64_t>(segment), place, step);
          if (!steps) {
            EXPECT_TRUE(place + Wide{kLast} * step < bound);
            continue;
          }
          EXPECT_TRUE(place + Wide{*steps} * step >= bound) << place << " + n " << step;
          EXPECT_TRUE(place + (Wide{*steps} - 1) * step < bound) << place << " + n " << step;
        }
      }
    }
  }
}

TEST(IndexMap, FirstOfShard) {
  for (const std::uint64_t start : Numbers(60)) {
    for (const std::uint64_t world_size : Numbers(20)) {
      if (world_size == 0) continue;
      for (const std::uint64_t rank : {std::uint64_t{0}, world_size / 2, world_size - 1}) {
        // The oracle: start rounded down to a multiple of world_size, plus rank, in 128 bits.
        Wide first = Wide{start} - start % world_size + rank;
        if (first < start) first += world_size;
        const std::optional<std::uint64_t> found = FirstOfShard(start, rank, world_size);
        ASSERT_EQ(found.has_value(), first <= kLast) << start << " " << rank << "/" << world_size;
        if (found) {
          EXPECT_TRUE(*found == first) << start << " " << rank << "/" << world_size;
          EXPECT_EQ(*found % world_size, rank);
          EXPECT_LT(*found - start, world_size);
        }
      }
    }
  }
  EXPECT_EQ(FirstOfShard(kLast, kLast % 4, 4), kLast);
  EXPECT_EQ(FirstOfShard(kLast, (kLast + 1) % 4, 4), std::nullopt);
  EXPECT_EQ(FirstOfShard(kLast - 1, kLast - 1, kLast), kLast - 1);  // rank + world_size exceeds 64 bits
}

TEST(IndexMap, CountsIndices) {
  for (const std::uint64_t first : Numbers(60)) {
    for (const std::uint64_t stride : Numbers(30)) {
      if (stride == 0) continue;
      const Wide count = (Wide{kLast} - first) / stride + 1;
      EXPECT_TRUE(IndicesLeft(first, stride) == (count > kLast ? Wide{kLast} : count)) << first << " " << stride;
      for (const std::uint64_t n : {IndicesLeft(first, stride), std::uint64_t{0}, std::uint64_t{1}, kLast}) {
        const bool exist = n == 0 || Wide{first} + (Wide{n} - 1) * stride <= kLast;
        EXPECT_EQ(IndicesExist(first, stride, n), exist) << first << " + " << n << " x " << stride;
      }
    }
  }
  EXPECT_EQ(IndicesLeft(0, 1), kLast);
  EXPECT_EQ(IndicesLeft(kLast, 7), 1U);
  EXPECT_TRUE(IndicesExist(5, 0, kLast));
}

}  // namespace
}  // namespace iterand
