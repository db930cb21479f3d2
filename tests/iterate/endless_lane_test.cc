// Endless pools: replayed, read by several readers, cancelled.
#include "iterate/endless_lane.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "iterate/presets.h"
#include "tests/iterate/stream_testing.h"

namespace iterand {
namespace {

TEST(EndlessLaneTest, EndlessPoolReplaysExactly) {
  v1::Recipe recipe = *LoadPreset("up-paper");
  recipe.mutable_families(0)->mutable_lstm()->mutable_hidden()->set_fixed(16);
  recipe.mutable_families(0)->mutable_lstm()->mutable_embedding()->set_fixed(16);
  recipe.mutable_pool()->set_pool_rows(60);
  recipe.mutable_pool()->set_program_rows(10);
  recipe.mutable_pool()->set_constant_rows(4);
  recipe.mutable_pool()->set_noise_rows(4);
  recipe.mutable_pool()->set_emit_rows(5);
  recipe.set_segment_sequences(7);  // not a multiple of what a round emits
  recipe.set_length(64);
  for (const auto emission : {v1::Pool::SAMPLE, v1::Pool::EVICT}) {
    recipe.mutable_pool()->set_emission(emission);
    recipe.mutable_pool()->set_emit_rows(emission == v1::Pool::SAMPLE ? 5 : 0);
    auto stream = *Stream::Open(recipe, 5);
    const std::vector<std::byte> whole = ReadAll(*stream, 0, 1, 700);
    const std::size_t bytes = stream->sequence_bytes();
    // Back to the start, from snapshots, and from a stream that has made nothing yet.
    EXPECT_EQ(ReadAll(*stream, 0, 1, 700), whole);
    for (const std::uint64_t first : {680U, 3U, 350U, 351U}) {
      const std::vector<std::byte> part = ReadAll(*stream, first, 1, 20);
      EXPECT_EQ(std::memcmp(whole.data() + first * bytes, part.data(), part.size()), 0) << first;
      auto fresh = *Stream::Open(recipe, 5);
      EXPECT_EQ(ReadAll(*fresh, first, 1, 20), part) << first;
    }
    std::vector<std::byte> row(bytes);
    EXPECT_EQ(stream->Read({.first_index = 1'000'000'000, .rows = 1}, row).code(), absl::StatusCode::kOutOfRange);
  }
}

// The limit counts rounds, not segments, from the lane's first segment on.
TEST(EndlessLaneTest, AJumpOfManyRoundsIsRefusedInAnEndlessPool) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  recipe.set_length(16);
  recipe.set_segment_sequences(1000);
  v1::Pool& pool = *recipe.mutable_pool();
  for (const auto& [emission, segment] : {std::pair{v1::Pool::SAMPLE, 21}, {v1::Pool::EVICT, 4100}}) {
    pool.set_emission(emission);
    if (emission == v1::Pool::SAMPLE)
      pool.set_emit_rows(1);  // 1000 rounds per segment; with EVICT at most 204 rows per round
    const auto stream = *Stream::Open(recipe, 0);
    std::vector<std::byte> row(16);
    const absl::Status refused =
        stream->Read({.first_index = static_cast<std::uint64_t>(segment) * 1000, .rows = 1}, row);
    EXPECT_EQ(refused.code(), absl::StatusCode::kOutOfRange) << refused;
    EXPECT_TRUE(stream->Read({.first_index = 2000, .rows = 1}, row).ok());
    pool.clear_emit_rows();
  }
}

// Segments of more rounds than a replay may take can only be read from where a reader is. A reader that begins again,
// or follows far behind, must not take that place.
TEST(EndlessLaneTest, ReadersOfAnEndlessPoolLeaveTheFurthestItsPlace) {
  constexpr std::uint64_t kSequences = 25'000;  // one per round
  constexpr std::uint64_t kSegments = 34;       // snapshots are two segments apart by then
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  recipe.set_length(16);
  recipe.set_segment_sequences(kSequences);
  v1::Pool& pool = *recipe.mutable_pool();
  pool.set_pool_rows(2);
  pool.set_program_rows(1);
  pool.set_constant_rows(0);
  pool.set_noise_rows(0);
  pool.set_emit_rows(1);
  const auto stream = *Stream::Open(recipe, 0);
  std::vector<std::byte> row(stream->sequence_bytes());
  const auto read = [&](std::uint64_t segment) {
    return stream->Read({.first_index = segment * kSequences, .rows = 1}, row);
  };
  for (std::uint64_t segment = 0; segment < kSegments - 1; ++segment) ASSERT_TRUE(read(segment).ok());
  std::map<std::uint64_t, std::vector<std::byte>> first;  // sequence of a segment
  const auto alone = *Stream::Open(recipe, 0);
  for (std::uint64_t segment = 0; segment < kSegments; ++segment) {
    ASSERT_TRUE(alone->Read({.first_index = segment * kSequences, .rows = 1}, row).ok());
    first[segment] = row;
  }
  for (std::uint64_t segment = 0; segment < 3; ++segment) {
    const absl::Status behind = read(segment);
    ASSERT_TRUE(behind.ok()) << behind;
    EXPECT_EQ(row, first[segment]);
  }
  const absl::Status ahead = read(kSegments - 1);
  ASSERT_TRUE(ahead.ok()) << ahead;
  EXPECT_EQ(row, first[kSegments - 1]);
  const absl::Status behind = read(3);
  ASSERT_TRUE(behind.ok()) << behind;
  EXPECT_EQ(row, first[3]);
}

TEST(EndlessLaneTest, AnEndlessPoolThatWasCancelledGoesOnAsIfNot) {
  for (const auto emission : {v1::Pool::SAMPLE, v1::Pool::EVICT}) {
    v1::Recipe recipe = LongRounds(1, 4096, 500);
    v1::Pool& pool = *recipe.mutable_pool();
    pool.set_pool_rows(30);
    pool.set_program_rows(12);
    pool.set_constant_rows(2);
    pool.set_noise_rows(2);
    pool.set_emission(emission);
    recipe.set_segment_sequences(5);
    auto broken = *Stream::Open(recipe, 1);
    auto whole = *Stream::Open(recipe, 1);
    auto workspace = broken->NewWorkspace();
    Segment segment;
    int cancellations = 0;
    for (std::uint64_t s = 0; s < 4; ++s) {
      for (const int delay : {1, 10, 40}) {
        const Later cancelled(std::chrono::milliseconds{delay});
        const absl::Status status = broken->GenerateSegment(0, s, *workspace, cancelled.control(), segment);
        if (absl::IsCancelled(status)) ++cancellations;
      }
      ASSERT_TRUE(broken->GenerateSegment(0, s, *workspace, nullptr, segment).ok());
      const std::vector<std::byte> rows = ReadAll(*whole, s * 5, 1, 5);
      EXPECT_EQ(std::memcmp(rows.data(), segment.row(0), rows.size()), 0) << s;
    }
    EXPECT_GT(cancellations, 0);
  }
}

}  // namespace
}  // namespace iterand
