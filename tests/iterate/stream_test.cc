// The promise: a stream is a pure function (recipe, seed, index) -> sequence.
#include "iterate/stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <vector>

#include "iterate/presets.h"
#include "tests/iterate/stream_testing.h"

namespace iterand {
namespace {

// Presets that are fast enough for many segments in a test.
const char* const kFastPresets[] = {"up", "lstm", "uniform", "pointwise", "markov", "automaton"};

class PresetTest : public testing::TestWithParam<const char*> {};

TEST_P(PresetTest, ThreadsDoNotMatter) {
  auto one = OpenPreset(GetParam());
  auto two = OpenPreset(GetParam());
  one->set_threads(1);
  two->set_threads(2);
  EXPECT_EQ(ReadAll(*one, 0, 1, 200), ReadAll(*two, 0, 1, 200));
}

TEST_P(PresetTest, BatchSizeDoesNotMatter) {
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
    EXPECT_EQ(parts, whole) << rows << " rows per batch";
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
  // 20 rows are generated per round; all but the pool's 50 must have been emitted.
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

}  // namespace
}  // namespace iterand
