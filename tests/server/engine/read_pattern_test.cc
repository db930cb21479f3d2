// The pattern of a progression against the stream's own index arithmetic.
#include "server/engine/read_pattern.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "tests/server/fixture.h"

namespace iterand {
namespace {

std::shared_ptr<Stream> StreamOf(int lanes, int sequences) {
  v1::Recipe recipe = RecipeOf(kCheapRecipe);
  recipe.set_lanes(lanes);
  recipe.set_segment_sequences(sequences);
  return *Stream::Open(recipe, 0);
}

TEST(ReadPattern, EveryRowLiesWhereTheStreamSays) {
  std::mt19937 random(1);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int i = 0; i < 300; ++i) {
    const std::shared_ptr<Stream> stream = StreamOf(1 + below(24), 1 + below(9));
    const std::uint64_t first = i % 10 == 0 ? ~std::uint64_t{0} - 200'000 : static_cast<std::uint64_t>(below(1000));
    const auto stride = static_cast<std::uint64_t>(1 + below(100));
    const auto count = static_cast<std::uint64_t>(1 + below(500));
    const absl::StatusOr<ReadPattern> pattern = ReadPattern::Make(*stream, first, stride, count);
    ASSERT_TRUE(pattern.ok()) << pattern.status();
    std::map<std::uint64_t, std::set<std::uint64_t>> segments;  // by slot
    std::set<std::pair<std::uint32_t, std::uint64_t>> first_segments;
    for (std::uint64_t row = 0; row < count; ++row) {
      const std::uint64_t slot = row % pattern->slots();
      const std::uint64_t round = row / pattern->slots();
      const Position expected = stream->index_map().Locate(first + row * stride);
      ASSERT_EQ(pattern->lane(slot), expected.lane);
      ASSERT_EQ(pattern->segment(slot, round), expected.segment);
      ASSERT_EQ(pattern->offset(pattern->place(slot, round)), expected.offset);
      ASSERT_TRUE(pattern->row(slot, round) == row);
      segments[slot].insert(expected.segment);
      if (row < 64) first_segments.emplace(expected.lane, expected.segment);
      const ReadPattern::Wide after = pattern->RoundAfter(slot, expected.segment);
      ASSERT_TRUE(after > round);
      if (pattern->row(slot, after) < count) {
        ASSERT_GT(
            stream->index_map().Locate(first + static_cast<std::uint64_t>(pattern->row(slot, after)) * stride).segment,
            expected.segment);
      }
      if (after > round + 1) {  // the row before it is still in the segment
        const std::uint64_t last = static_cast<std::uint64_t>(after) - 1;
        ASSERT_EQ(pattern->segment(slot, last), expected.segment);
      }
    }
    const double estimate = pattern->SegmentsOfFirst(64);
    EXPECT_GT(estimate, 0.4 * static_cast<double>(first_segments.size()));
    EXPECT_LT(estimate, 2.5 * static_cast<double>(first_segments.size()));
  }
}

TEST(ReadPattern, IndicesEndAtTheLargest) {
  const std::shared_ptr<Stream> stream = StreamOf(8, 6);
  EXPECT_TRUE(ReadPattern::Make(*stream, ~std::uint64_t{0}, 5, 1).ok());
  EXPECT_TRUE(ReadPattern::Make(*stream, ~std::uint64_t{0} - 5, 5, 2).ok());
  EXPECT_EQ(ReadPattern::Make(*stream, ~std::uint64_t{0} - 5, 6, 2).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(ReadPattern::Make(*stream, 0, 5, 0)->slots(), 0U);
}

TEST(ReadPattern, ShardsOfWholeLanesAreStriped) {
  const std::shared_ptr<Stream> stream = StreamOf(8, 6);
  EXPECT_TRUE(ReadPattern::Make(*stream, 0, 1, 1000)->striped());
  EXPECT_EQ(ReadPattern::Make(*stream, 0, 1, 1000)->StripeLanes(0, 0), 8U);
  EXPECT_EQ(ReadPattern::Make(*stream, 1, 2, 1000)->StripeLanes(0, 0), 4U);
  EXPECT_EQ(ReadPattern::Make(*stream, 1, 2, 1000)->stripe_lane(3), 3U);
  EXPECT_FALSE(ReadPattern::Make(*stream, 0, 3, 1000)->striped());
  EXPECT_FALSE(ReadPattern::Make(*stream, 0, 8, 1000)->striped());  // one lane
  EXPECT_FALSE(ReadPattern::Make(*stream, 0, 1, 20)->striped());    // too short
}

}  // namespace
}  // namespace iterand
