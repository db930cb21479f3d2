// The promise: a stream is a pure function (recipe, seed, index) -> sequence.
#include "iterate/stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <ctime>
#include <map>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "iterate/presets.h"
#include "iterate/recipe_json.h"

namespace iterand {
namespace {

// Presets of which a test can afford many segments.
const char* const kFastPresets[] = {"up", "lstm", "uniform", "pointwise", "markov", "automaton"};

std::shared_ptr<Stream> OpenPreset(const std::string& name, std::uint64_t seed = 0, std::int64_t length = 0) {
  auto recipe = LoadPreset(name);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  if (length > 0) recipe->set_length(length);
  auto stream = Stream::Open(*recipe, seed);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return *stream;
}

std::vector<std::byte> ReadAll(Stream& stream, std::uint64_t first, std::uint64_t stride, int rows) {
  std::vector<std::byte> out(static_cast<std::size_t>(rows) * stream.sequence_bytes());
  const absl::Status status = stream.Read({.first_index = first, .stride = stride, .rows = rows}, out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

class PresetTest : public testing::TestWithParam<const char*> {};

TEST_P(PresetTest, ThreadsDoNotMatter) {
  auto one = OpenPreset(GetParam());
  auto two = OpenPreset(GetParam());
  one->set_threads(1);
  two->set_threads(2);
  EXPECT_EQ(ReadAll(*one, 0, 1, 200), ReadAll(*two, 0, 1, 200));
}

TEST_P(PresetTest, BatchSizeDoNotMatter) {
  const int total = 448;
  auto stream = OpenPreset(GetParam());
  const std::vector<std::byte> whole = ReadAll(*stream, 0, 1, total);
  for (const int rows : {1, 7, 64}) {
    auto fresh = OpenPreset(GetParam());
    std::vector<std::byte> parts;
    for (int first = 0; first < total; first += rows) {
      const std::vector<std::byte> part = ReadAll(*fresh, static_cast<std::uint64_t>(first), 1, rows);
      parts.insert(parts.end(), part.begin(), part.end());
    }
    EXPECT_EQ(parts, whole) << rows << " rows a batch";
  }
}

TEST_P(PresetTest, FourShardsMakeOneStream) {
  const int total = 256;
  auto stream = OpenPreset(GetParam());
  const std::vector<std::byte> whole = ReadAll(*stream, 0, 1, total);
  const std::size_t bytes = stream->sequence_bytes();
  for (int rank = 0; rank < 4; ++rank) {
    auto shard = OpenPreset(GetParam());
    const std::vector<std::byte> part = ReadAll(*shard, static_cast<std::uint64_t>(rank), 4, total / 4);
    for (int i = 0; i < total / 4; ++i) {
      ASSERT_EQ(std::memcmp(part.data() + static_cast<std::size_t>(i) * bytes,
                            whole.data() + static_cast<std::size_t>(4 * i + rank) * bytes, bytes),
                0)
          << "rank " << rank << ", row " << i;
    }
  }
}

TEST_P(PresetTest, ResumeEqualsUninterrupted) {
  auto stream = OpenPreset(GetParam());
  const std::vector<std::byte> whole = ReadAll(*stream, 0, 1, 1128);
  auto resumed = OpenPreset(GetParam());
  const std::vector<std::byte> tail = ReadAll(*resumed, 1000, 1, 128);
  EXPECT_EQ(std::memcmp(whole.data() + 1000 * stream->sequence_bytes(), tail.data(), tail.size()), 0);
}

TEST_P(PresetTest, SeedsDiffer) {
  auto zero = OpenPreset(GetParam(), 0);
  auto one = OpenPreset(GetParam(), 1);
  EXPECT_NE(zero->fingerprint(), one->fingerprint());
  EXPECT_NE(ReadAll(*zero, 0, 1, 8), ReadAll(*one, 0, 1, 8));
}

INSTANTIATE_TEST_SUITE_P(Fast, PresetTest, testing::ValuesIn(kFastPresets),
                         [](const auto& test) { return std::string(test.param); });

TEST(StreamTest, FarSeekIsAsCheapAsTheStart) {
  auto stream = OpenPreset("up");
  const std::uint64_t far = 1'000'000'000;
  const Position place = stream->index_map().Locate(far);
  EXPECT_EQ(place.lane, far % static_cast<std::uint64_t>(stream->lanes()));
  std::vector<RowProvenance> provenance(4);
  std::vector<std::byte> out(4 * stream->sequence_bytes());
  ASSERT_TRUE(stream->Read({.first_index = far, .rows = 4, .provenance = provenance}, out).ok());
  // Rounds count from the segment's start: nothing before the segment was computed.
  for (const RowProvenance& row : provenance) {
    EXPECT_EQ(row.segment, place.segment);
    EXPECT_LT(row.round, 200U);
  }
}

TEST(StreamTest, ReadTwiceAndBackwards) {
  auto stream = OpenPreset("up");
  const std::vector<std::byte> later = ReadAll(*stream, 5000, 1, 16);
  const std::vector<std::byte> early = ReadAll(*stream, 3, 1, 16);
  EXPECT_EQ(ReadAll(*stream, 5000, 1, 16), later);
  EXPECT_EQ(ReadAll(*stream, 3, 1, 16), early);
}

TEST(StreamTest, LastIndexAndOverflow) {
  auto stream = OpenPreset("uniform");
  std::vector<std::byte> out(2 * stream->sequence_bytes());
  EXPECT_TRUE(stream->Read({.first_index = UINT64_MAX, .rows = 1}, out).ok());
  EXPECT_EQ(stream->Read({.first_index = UINT64_MAX, .rows = 2}, out).code(), absl::StatusCode::kOutOfRange);
}

TEST(StreamTest, EndlessPoolReplaysExactly) {
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

// What is refused is a number of rounds, not of segments, from the lane's first segment on.
TEST(StreamTest, AJumpOfManyRoundsIsRefusedInAnEndlessPool) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  recipe.set_length(16);
  recipe.set_segment_sequences(1000);
  v1::Pool& pool = *recipe.mutable_pool();
  for (const auto& [emission, segment] : {std::pair{v1::Pool::SAMPLE, 21}, {v1::Pool::EVICT, 4100}}) {
    pool.set_emission(emission);
    if (emission == v1::Pool::SAMPLE)
      pool.set_emit_rows(1);  // 1000 rounds a segment; with EVICT at most 204 rows a round
    const auto stream = *Stream::Open(recipe, 0);
    std::vector<std::byte> row(16);
    const absl::Status refused =
        stream->Read({.first_index = static_cast<std::uint64_t>(segment) * 1000, .rows = 1}, row);
    EXPECT_EQ(refused.code(), absl::StatusCode::kOutOfRange) << refused;
    EXPECT_TRUE(stream->Read({.first_index = 2000, .rows = 1}, row).ok());
    pool.clear_emit_rows();
  }
}

// Segments of more rounds than a replay may take can only be read on from where a reader is. One that begins anew, or
// follows far behind, must not take that place.
TEST(StreamTest, ReadersOfAnEndlessPoolLeaveTheFurthestItsPlace) {
  constexpr std::uint64_t kSequences = 25'000;  // one a round
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

TEST(StreamTest, CostIsThatOfAllThatIsMade) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_lstm();
  const double chain = (*Stream::Open(recipe, 0))->Cost().flops_per_token;
  EXPECT_GT(chain, 0);
  recipe.mutable_pool()->set_program_rows(100);
  recipe.mutable_pool()->set_emit_rows(20);  // of 100 that are made
  EXPECT_EQ((*Stream::Open(recipe, 0))->Cost().flops_per_token, 5 * chain);
  recipe.mutable_pool()->clear_emit_rows();
  recipe.mutable_pool()->set_emission(v1::Pool::EVICT);
  EXPECT_EQ((*Stream::Open(recipe, 0))->Cost().flops_per_token, chain);
}

TEST(StreamTest, FirstBatchIsOfWholeSegments) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  const auto first_batch = [&](int lanes, int sequences) {
    recipe.set_lanes(lanes);
    recipe.set_segment_sequences(sequences);
    return (*Stream::Open(recipe, 0))->Cost().first_batch_sequences;
  };
  EXPECT_EQ(first_batch(1, 1), 64U);
  EXPECT_EQ(first_batch(1, 48), 96U);
  EXPECT_EQ(first_batch(32, 48), 32U * 48);
  EXPECT_EQ(first_batch(100, 5), 64U * 5);
}

TEST(StreamTest, EveryEvictedRowIsEmittedOnce) {
  v1::Recipe recipe;
  recipe.add_families()->mutable_uniform();
  recipe.mutable_pool()->set_pool_rows(50);
  recipe.mutable_pool()->set_program_rows(20);
  recipe.mutable_pool()->set_constant_rows(3);
  recipe.mutable_pool()->set_noise_rows(3);
  recipe.mutable_pool()->set_emission(v1::Pool::EVICT);
  recipe.mutable_pool()->set_endless(false);
  recipe.set_distinct(true);  // would drop a row that is emitted twice
  recipe.set_lanes(1);
  recipe.set_segment_sequences(1000);
  auto stream = *Stream::Open(recipe, 0);
  std::vector<RowProvenance> provenance(1000);
  std::vector<std::byte> out(1000 * stream->sequence_bytes());
  ASSERT_TRUE(stream->Read({.rows = 1000, .provenance = provenance}, out).ok());
  std::uint64_t rounds = 0;
  for (const RowProvenance& row : provenance) rounds = std::max(rounds, row.round + 1);
  // 20 rows are generated a round; all but the pool's 50 must have come out.
  EXPECT_LE(rounds, (1000 + 50) / 20 + 1U);
}

TEST(StreamTest, ChainOfReadersDeepens) {
  auto stream = OpenPreset("lstm", 0, 64);
  std::vector<RowProvenance> provenance(512);
  std::vector<std::byte> out(512 * stream->sequence_bytes());
  ASSERT_TRUE(stream->Read({.rows = 512, .provenance = provenance}, out).ok());
  int deepest = 0;
  for (const RowProvenance& row : provenance) deepest = std::max<int>(deepest, row.depth);
  EXPECT_GE(deepest, 6);
  EXPECT_LE(deepest, 8);
}

TEST(StreamTest, SourcesThatDoNotReadHaveDepthOne) {
  auto stream = OpenPreset("markov");
  std::vector<RowProvenance> provenance(128);
  std::vector<std::byte> out(128 * stream->sequence_bytes());
  ASSERT_TRUE(stream->Read({.rows = 128, .provenance = provenance}, out).ok());
  for (const RowProvenance& row : provenance) EXPECT_EQ(row.depth, 1);
}

TEST(StreamTest, StarvedFilterEndsInAnError) {
  v1::Recipe recipe = *LoadPreset("uniform");
  recipe.mutable_band()->set_high(0.01);
  recipe.set_starvation_rounds(5);
  auto stream = *Stream::Open(recipe, 0);
  std::vector<std::byte> out(stream->sequence_bytes());
  const absl::Status status = stream->Read({.rows = 1}, out);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(status.message()).find("starvation_rounds"), std::string::npos) << status;
}

TEST(StreamTest, StarvedFilterNamesTheFiltersThatAreSet) {
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
TEST(StreamTest, RoundsThatFinishNoRowStarveNobody) {
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

// A segment of a mixture may consist of the one family that a band excludes.
TEST(StreamTest, StarvedFilterNamesTheSegmentsFamily) {
  v1::Recipe recipe = *LoadPreset("up");
  recipe.mutable_band()->set_low(0.3);
  auto stream = *Stream::Open(recipe, 0);
  std::vector<std::byte> out(128 * stream->sequence_bytes());
  const absl::Status status = stream->Read({.rows = 128}, out);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(status.message()).find(", which is all of family repeat; "), std::string::npos) << status;
}

// A segment that is made in turns, here of one round each, is that which is made at once, errors included.
TEST(StreamTest, TurnsMakeTheSameSegment) {
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

TEST(StreamTest, CancelledAtOnce) {
  auto stream = OpenPreset("up");
  auto workspace = stream->NewWorkspace();
  RunControl cancelled;
  cancelled.Stop();
  Segment segment;
  EXPECT_EQ(stream->GenerateSegment(0, 0, *workspace, &cancelled, segment).code(), absl::StatusCode::kCancelled);
}

// Stops some time after it was made.
class Later {
 public:
  explicit Later(std::chrono::milliseconds delay)
      : thread_([this, delay] {
          std::this_thread::sleep_for(delay);
          control_.Stop();
        }) {}
  const RunControl* control() const { return &control_; }

 private:
  RunControl control_;
  std::jthread thread_;
};

// A program that never ends and reads its row, on long rows: a round of many seconds.
v1::Recipe LongRounds(std::int64_t rows, std::int64_t length, std::int64_t steps_per_token) {
  v1::Recipe recipe;
  v1::TapeMachine& family = *recipe.add_families()->mutable_tape_machine();
  family.add_programs(",.[+]+[]");
  family.mutable_steps_per_token()->set_fixed(steps_per_token);
  recipe.set_length(length);
  recipe.mutable_chain()->mutable_rows()->set_fixed(rows);
  return recipe;
}

TEST(StreamTest, CancelledWithinARound) {
  auto stream = *Stream::Open(LongRounds(12, 65536, 4096), 0);
  auto workspace = stream->NewWorkspace();
  Segment segment;
  const Later cancelled(std::chrono::milliseconds(50));
  const std::clock_t before = std::clock();
  EXPECT_EQ(stream->GenerateSegment(0, 0, *workspace, cancelled.control(), segment).code(),
            absl::StatusCode::kCancelled);
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 3);
}

TEST(StreamTest, AnEndlessPoolThatWasCancelledGoesOnAsIfNot) {
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

TEST(StreamTest, RelabelIntoLargerVocabularies) {
  for (const std::int64_t vocabulary : {256LL, 300LL, 65536LL, 100000LL, 1LL << 20, (1LL << 20) + 1, 1LL << 32}) {
    v1::Recipe recipe = *LoadPreset("markov");
    recipe.set_vocab_size(vocabulary);
    auto stream = *Stream::Open(recipe, 0);
    recipe.set_relabel(v1::Recipe::RELABEL_NONE);
    auto plain = *Stream::Open(recipe, 0);
    const std::vector<std::byte> tokens = ReadAll(*stream, 0, 1, 64);
    const std::vector<std::byte> symbols = ReadAll(*plain, 0, 1, 64);
    const std::size_t width = DtypeBytes(stream->dtype());
    const auto value = [&](const std::vector<std::byte>& from, std::size_t i) {
      std::uint32_t v = 0;
      std::memcpy(&v, from.data() + i * width, width);
      return v;
    };
    std::uint32_t largest = 0;
    for (std::size_t row = 0; row < 64; ++row) {
      std::map<std::uint32_t, std::uint32_t> there;
      std::map<std::uint32_t, std::uint32_t> back;
      for (std::size_t t = 0; t < 512; ++t) {
        const std::uint32_t token = value(tokens, row * 512 + t);
        const std::uint32_t symbol = value(symbols, row * 512 + t);
        ASSERT_LT(token, vocabulary);
        ASSERT_EQ(there.emplace(symbol, token).first->second, token);
        ASSERT_EQ(back.emplace(token, symbol).first->second, symbol);
        largest = std::max(largest, token);
      }
    }
    EXPECT_GT(largest, vocabulary / 2);
  }
}

TEST(StreamTest, ReadRefusesMemoryThatIsTooSmall) {
  v1::Recipe recipe = *LoadPreset("uniform");
  const std::shared_ptr<Stream> plain = *Stream::Open(recipe, 0);
  recipe.set_loss_mask(true);
  const std::shared_ptr<Stream> masked = *Stream::Open(recipe, 0);
  const std::size_t bytes = plain->sequence_bytes();
  std::vector<std::byte> tokens(3 * bytes);
  std::vector<std::uint8_t> mask(3 * bytes);
  std::vector<RowProvenance> provenance(2);
  const auto refused = [](const absl::Status& status, const char* what) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(what));
  };
  EXPECT_TRUE(plain->Read({.rows = 3}, tokens).ok());
  refused(plain->Read({.rows = 4}, tokens), "tokens: has 1536, must have at least 2048 for 4 rows");
  refused(plain->Read({.rows = 3}, std::span(tokens).first(3 * bytes - 1)), "tokens");
  refused(plain->Read({.rows = 3, .provenance = provenance}, tokens), "provenance: has 2, must have at least 3");
  refused(plain->Read({.rows = 3, .loss_mask = mask}, tokens), "loss_mask: is given, but the recipe has no loss_mask");
  refused(masked->Read({.rows = 3, .loss_mask = std::span(mask).first(bytes)}, tokens), "loss_mask: has 512");
  EXPECT_TRUE(masked->Read({.rows = 3, .loss_mask = mask}, tokens).ok());
}

TEST(StreamTest, AJobCanBeCancelledBetweenSlices) {
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
