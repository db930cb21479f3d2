// What a reader wants ahead. (engine_test.cc shows that it gives the stream's sequences.)
#include "server/engine/sequence_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "server/engine/engine.h"
#include "tests/server/engine/consumer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

// kCheapRecipe: 8 lanes, segments of 6 sequences.
constexpr std::uint64_t kLanes = 8;
constexpr std::uint64_t kStripeRows = kLanes * 6;

std::uint64_t GeneratedWhenQuiet(const Engine& engine) {
  EXPECT_TRUE(WaitUntil([&] {
    const EngineStats stats = engine.stats();
    return stats.segments_queued + stats.segments_running == 0;
  }));
  return engine.stats().segments_generated;
}

TEST(SequenceReader, WantsAtFirstWhatTheFirstBatchNeeds) {
  Engine engine(Options(2, 0));
  const std::shared_ptr<SharedStream> stream = *engine.Open(RecipeOf(kCheapRecipe), 0);
  {
    const Consumer some(engine, stream, {.count = 100'000, .first_batch_size = 5});
    EXPECT_EQ(GeneratedWhenQuiet(engine), 5U);  // one of five lanes
  }
  {
    const Consumer all(engine, stream, {.count = 100'000, .first_batch_size = kLanes + 1});
    EXPECT_EQ(GeneratedWhenQuiet(engine), 5 + kLanes);
  }
  const Consumer more(engine, stream, {.count = 100'000, .first_batch_size = kStripeRows + 1});
  EXPECT_EQ(GeneratedWhenQuiet(engine), 5 + 2 * kLanes + 1);
}

TEST(SequenceReader, ReadsAheadOfWhatIsTaken) {
  Engine engine(Options(2, 0));
  const std::shared_ptr<SharedStream> stream = *engine.Open(RecipeOf(kCheapRecipe), 0);
  Consumer consumer(engine, stream, {.count = 100'000, .first_batch_size = 12});
  EXPECT_EQ(GeneratedWhenQuiet(engine), kLanes);
  ASSERT_TRUE(consumer.Read(12).ok());
  EXPECT_EQ(GeneratedWhenQuiet(engine), kLanes);  // 36 rows, fewer than a stripe
  ASSERT_TRUE(consumer.Read(12).ok());
  EXPECT_EQ(GeneratedWhenQuiet(engine), 2 * kLanes);  // 72 rows
  ASSERT_TRUE(consumer.Read(36).ok());
  EXPECT_EQ(GeneratedWhenQuiet(engine), 4 * kLanes);  // 180 rows
  // Until the bound in bytes is reached.
  ASSERT_TRUE(consumer.Read(20'000).ok());
  GeneratedWhenQuiet(engine);
  EXPECT_LE(engine.stats().held_bytes, std::uint64_t{1} << 20);
  EXPECT_GT(engine.stats().held_bytes, (std::uint64_t{1} << 20) * 9 / 10);
}

TEST(SequenceReader, TheFirstBatchMayBeTakenInParts) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  Engine engine(Options(1, 0));
  const std::shared_ptr<SharedStream> stream = *engine.Open(recipe, 0);
  for (const int rows : {1, 7, 50, 300}) {
    Consumer consumer(engine, stream, {.first = 3, .stride = 2, .count = 300, .first_batch_size = 64});
    std::string bytes;
    for (int taken = 0; taken < 300; taken += rows) bytes += *consumer.Read(std::min(rows, 300 - taken));
    EXPECT_TRUE(bytes == InProcess(recipe, 0, 3, 2, 300)) << rows;
  }
}

TEST(SequenceReader, WakesItsConsumerOncePerBatch) {
  constexpr int kRows = 80;  // 20 of each of 4 lanes: four segments
  const v1::Recipe recipe = RecipeOf(kNetworkRecipe);
  Engine engine(Options(1, 0));
  const std::shared_ptr<SharedStream> stream = *engine.Open(recipe, 0);
  Consumer consumer(engine, stream, {.count = 6 * kRows, .first_batch_size = kRows});
  std::string bytes = *consumer.Read(kRows);
  for (int batch = 1; batch < 6; ++batch) {
    const int before = consumer.waits();
    bytes += *consumer.Read(kRows);
    EXPECT_LE(consumer.waits() - before, 1);
  }
  EXPECT_TRUE(bytes == InProcess(recipe, 0, 0, 1, 6 * kRows));
}

TEST(SequenceReader, ExclusiveRowsMayBeWrittenTo) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  Engine engine(Options(2, 4 << 20));
  const std::shared_ptr<SharedStream> stream = *engine.Open(recipe, 0);
  constexpr int kRows = 3 * static_cast<int>(kStripeRows);
  const std::string expected = InProcess(recipe, 0, 0, 1, kRows);
  const auto take = [&](bool exclusive, bool write) {
    std::string bytes;
    Consumer consumer(engine, stream, {.count = kRows, .first_batch_size = 7, .exclusive = exclusive});
    const std::size_t row_bytes = stream->stream().sequence_bytes();
    for (int rows = 0; rows < kRows;) {
      const absl::StatusOr<int> taken =
          consumer.reader().Take(7, [&](const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
            const std::byte* const row = segment->row(offset);
            bytes.append(reinterpret_cast<const char*>(row), row_bytes);
            if (write) std::fill_n(const_cast<std::byte*>(row), row_bytes, std::byte{0xFF});
          });
      ASSERT_TRUE(taken.ok()) << taken.status();
      rows += *taken;
      if (*taken == 0) consumer.Wait();
    }
    EXPECT_TRUE(bytes == expected);
  };
  take(/*exclusive=*/false, /*write=*/false);  // an exclusive reader does not use what the cache keeps
  for (int i = 0; i < 3; ++i) take(/*exclusive=*/true, /*write=*/true);
  take(/*exclusive=*/false, /*write=*/false);
  EXPECT_LE(engine.stats().cache_bytes, kStripeRows * 4 * stream->stream().sequence_bytes() * 2);
}

TEST(SequenceReader, AReaderWithoutRowsEndsAtOnce) {
  Engine engine(Options(1));
  const std::shared_ptr<SharedStream> stream = *engine.Open(RecipeOf(kCheapRecipe), 0);
  for (const std::uint64_t first_batch : {0, 64}) {
    Consumer consumer(engine, stream, {.first = 5, .count = 0, .first_batch_size = first_batch});
    EXPECT_EQ(consumer.reader().remaining(), 0U);
    EXPECT_EQ(*consumer.reader().Take(10, [](const auto&, std::uint32_t) { FAIL(); }), 0);
  }
}

}  // namespace
}  // namespace iterand
