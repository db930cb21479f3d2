// Segments in time slices, cancelled, and without a row that survives the filters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <vector>

#include "iterate/presets.h"
#include "tests/iterate/stream_testing.h"

namespace iterand {
namespace {

TEST(SegmentJobTest, StarvedFilterEndsInAnError) {
  v1::Recipe recipe = *LoadPreset("uniform");
  recipe.mutable_band()->set_high(0.01);
  recipe.set_starvation_rounds(5);
  auto stream = *Stream::Open(recipe, 0);
  std::vector<std::byte> out(stream->sequence_bytes());
  const absl::Status status = stream->Read({.rows = 1}, out);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(status.message()).find("starvation_rounds"), std::string::npos) << status;
}

TEST(SegmentJobTest, StarvedFilterNamesTheFiltersThatAreSet) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_constant();  // 256 different rows
  recipe.set_length(16);
  recipe.set_lanes(1);
  recipe.set_segment_sequences(300);
  const auto error = [&] {
    auto stream = *Stream::Open(recipe, 0);
    std::vector<std::byte> row(16);
    return std::string(stream->Read({.rows = 1}, row).message());
  };
  recipe.set_distinct(true);
  EXPECT_THAT(error(), testing::HasSubstr("no row survived distinct in 1000 rounds"));
  EXPECT_THAT(error(), testing::HasSubstr("; lower segment_sequences, or choose families that make more different"));
  recipe.mutable_band()->set_low(0);
  EXPECT_THAT(error(), testing::HasSubstr("no row survived band and distinct in 1000 rounds"));
  recipe.set_distinct(false);
  recipe.mutable_band()->set_low(1);
  EXPECT_THAT(error(), testing::HasSubstr("no row survived band in 1000 rounds"));
  EXPECT_THAT(error(), testing::HasSubstr("; widen band, or choose families that make such rows"));
}

// A large pool that emits by eviction finishes no row in its first rounds. Filters have then nothing to judge.
TEST(SegmentJobTest, RoundsThatFinishNoRowStarveNobody) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  recipe.set_length(16);
  recipe.set_starvation_rounds(5);
  v1::Pool& pool = *recipe.mutable_pool();
  pool.set_pool_rows(2000);
  pool.set_program_rows(1);
  pool.set_constant_rows(0);
  pool.set_noise_rows(0);
  pool.set_emission(v1::Pool::EVICT);
  pool.set_endless(false);
  std::vector<std::byte> out(16);
  for (const bool distinct : {false, true}) {
    recipe.set_distinct(distinct);
    const absl::Status status = (*Stream::Open(recipe, 0))->Read({.rows = 1}, out);
    EXPECT_TRUE(status.ok()) << status;
  }
  recipe.mutable_band()->set_high(0.01);
  const absl::Status starved = (*Stream::Open(recipe, 0))->Read({.rows = 1}, out);
  EXPECT_THAT(std::string(starved.message()), testing::HasSubstr("no row survived band and distinct in 5 rounds"));
}

// A segment of a recipe with several families may consist of the one family that a band excludes.
TEST(SegmentJobTest, StarvedFilterNamesTheSegmentsFamily) {
  v1::Recipe recipe = *LoadPreset("up-statistics");
  recipe.mutable_band()->set_low(0.3);
  auto stream = *Stream::Open(recipe, 0);
  std::vector<std::byte> out(128 * stream->sequence_bytes());
  const absl::Status status = stream->Read({.rows = 128}, out);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(status.message()).find(", which is all of family repeat; "), std::string::npos) << status;
}

// A segment that is made in turns, here of one round each, equals one that is made at once, errors included.
TEST(SegmentJobTest, TurnsMakeTheSameSegment) {
  v1::Recipe banded = *LoadPreset("lstm");
  banded.mutable_band()->set_high(0.8);
  v1::Recipe starved = *LoadPreset("uniform");
  starved.mutable_band()->set_high(0.1);
  starved.set_starvation_rounds(20);
  v1::Recipe pool = *LoadPreset("up-noit");
  pool.set_length(64);
  pool.set_segment_sequences(160);
  pool.mutable_pool()->set_endless(false);
  for (const v1::Recipe& recipe : {*LoadPreset("up"), *LoadPreset("mix"), banded, starved, pool}) {
    auto stream = *Stream::Open(recipe, 3);
    auto whole_workspace = stream->NewWorkspace();
    auto workspace = stream->NewWorkspace();
    for (std::uint64_t number = 0; number < 2; ++number) {
      Segment whole;
      const absl::Status expected = stream->GenerateSegment(0, number, *whole_workspace, nullptr, whole);
      Segment segment;
      SegmentJob job = stream->Begin(0, number, segment);
      int slices = 1;
      for (; !job.Run(*workspace, SegmentJob::Seconds(0)); ++slices) ASSERT_TRUE(job.keeps_workspace());
      EXPECT_FALSE(job.keeps_workspace());
      EXPECT_EQ(job.status(), expected);
      EXPECT_GT(slices, 1);
      if (!job.status().ok()) continue;
      for (std::size_t row = 0; row < segment.provenance.size(); ++row) {
        ASSERT_EQ(std::memcmp(segment.row(row), whole.row(row), stream->sequence_bytes()), 0) << row;
      }
      EXPECT_EQ(segment.generated_symbols, whole.generated_symbols);
    }
  }
}

TEST(SegmentJobTest, CancelledAtOnce) {
  auto stream = OpenPreset("up");
  auto workspace = stream->NewWorkspace();
  RunControl cancelled;
  cancelled.Stop();
  Segment segment;
  EXPECT_EQ(stream->GenerateSegment(0, 0, *workspace, &cancelled, segment).code(), absl::StatusCode::kCancelled);
}

TEST(SegmentJobTest, CancelledWithinARound) {
  auto stream = *Stream::Open(LongRounds(12, 65536, 4096), 0);
  auto workspace = stream->NewWorkspace();
  Segment segment;
  const Later cancelled(std::chrono::milliseconds(50));
  const std::clock_t before = std::clock();
  EXPECT_EQ(stream->GenerateSegment(0, 0, *workspace, cancelled.control(), segment).code(),
            absl::StatusCode::kCancelled);
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 3);
}

TEST(SegmentJobTest, AJobCanBeCancelledBetweenSlices) {
  const std::shared_ptr<Stream> stream = *Stream::Open(*LoadPreset("up"), 0);
  const std::unique_ptr<Workspace> workspace = stream->NewWorkspace();
  RunControl control;
  Segment segment;
  SegmentJob job = stream->Begin(0, 0, segment, &control);
  ASSERT_FALSE(job.Run(*workspace, SegmentJob::Seconds(0)));
  control.Stop();
  ASSERT_TRUE(job.Run(*workspace, SegmentJob::Seconds(0)));
  EXPECT_EQ(job.status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(job.keeps_workspace());
  // The workspace can be used again.
  Segment whole;
  ASSERT_TRUE(stream->GenerateSegment(0, 0, *workspace, nullptr, segment).ok());
  ASSERT_TRUE(stream->GenerateSegment(0, 0, *stream->NewWorkspace(), nullptr, whole).ok());
  for (std::size_t row = 0; row < segment.provenance.size(); ++row) {
    ASSERT_EQ(std::memcmp(segment.row(row), whole.row(row), stream->sequence_bytes()), 0) << row;
  }
}

}  // namespace
}  // namespace iterand
