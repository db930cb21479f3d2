// The engine without a network: order, sharing, bounds, fairness, cancelling.
#include "server/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "iterate/snapshots.h"
#include "tests/server/engine/consumer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::HasSubstr;

TEST(Engine, AnyProgressionEqualsTheStream) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);  // 8 lanes, segments of 6
  // Prefetch from one segment to all, so that each bound on what may be held is met.
  for (const std::size_t prefetch : {std::size_t{1}, std::size_t{4096}, std::size_t{1} << 20}) {
    Engine engine(Options(2, 0, prefetch));
    const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
    for (const std::uint64_t first : {0, 3, 47, 1001}) {
      for (const std::uint64_t stride : {1, 2, 3, 4, 5, 8, 12, 16, 47, 48, 49, 1000}) {
        for (const int rows : {1, 7, 100}) {
          Consumer consumer(engine, open, first, stride, static_cast<std::uint64_t>(rows));
          const absl::StatusOr<std::string> bytes = consumer.Read(rows);
          ASSERT_TRUE(bytes.ok()) << bytes.status();
          ASSERT_TRUE(*bytes == InProcess(recipe, 0, first, stride, rows))
              << "first " << first << " stride " << stride << " rows " << rows << " prefetch " << prefetch;
          EXPECT_EQ(consumer.reader().remaining(), 0U);
        }
      }
    }
    EXPECT_EQ(engine.stats().held_bytes, 0U);
  }
}

TEST(Engine, GeneratesOnlyWhatIsNeeded) {
  Engine engine(Options(2));
  const std::shared_ptr<SharedStream> open = *engine.Open(RecipeOf(kCheapRecipe), 0);
  Consumer shard(engine, open, 1, 4, 12);  // lanes 1 and 5, 6 rows each: one segment each
  ASSERT_TRUE(shard.Read(12).ok());
  EXPECT_EQ(engine.stats().segments_generated, 2U);
  Consumer row(engine, open, 8 * 6 * 1000, 1, 1);
  ASSERT_TRUE(row.Read(1).ok());
  EXPECT_EQ(engine.stats().segments_generated, 3U);
}

TEST(Engine, EqualStreamsShareSegments) {
  Engine engine(Options(2, 64 << 20));
  const v1::Recipe recipe = RecipeOf(kNetworkRecipe);  // 4 lanes, segments of 20
  const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
  EXPECT_EQ(*engine.Open(recipe, 0), open);
  EXPECT_NE(*engine.Open(recipe, 1), open);
  constexpr int kRows = 4 * 20 * 5;
  std::vector<std::string> read(3);
  std::vector<std::thread> threads;
  threads.reserve(read.size());
  for (std::string& bytes : read) {
    threads.emplace_back([&] {
      Consumer consumer(engine, open, 0, 1, kRows);
      bytes = *consumer.Read(kRows);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(read[0] == read[1] && read[1] == read[2]);
  EXPECT_EQ(engine.stats().segments_generated, 20U);
  EXPECT_EQ(engine.stats().cache_misses, 20U);
  EXPECT_EQ(engine.stats().cache_hits, 40U);
}

TEST(Engine, WithoutCacheStillJoinsWhatIsUnderWay) {
  Engine engine(Options(1, 0));
  const std::shared_ptr<SharedStream> open = *engine.Open(RecipeOf(kNetworkRecipe), 0);
  Consumer a(engine, open, 0, 1, 80);
  Consumer b(engine, open, 0, 1, 80);  // wants the same four segments, before the first is ready
  ASSERT_TRUE(*a.Read(80) == *b.Read(80));
  EXPECT_EQ(engine.stats().segments_generated, 4U);
  EXPECT_EQ(engine.stats().cache_bytes, 0U);
}

TEST(Engine, CacheIsBoundedAndForgetsTheOldest) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  Engine engine(Options(1, /*cache_bytes=*/10'000));
  const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
  Consumer consumer(engine, open, 0, 1, 48 * 100);
  ASSERT_TRUE(consumer.Read(48 * 100).ok());
  EXPECT_LE(engine.stats().cache_bytes, 10'000U);
  EXPECT_GT(engine.stats().cache_bytes, 0U);
  const std::uint64_t generated = engine.stats().segments_generated;
  Consumer last(engine, open, 48 * 100 - 1, 1, 1);
  ASSERT_TRUE(last.Read(1).ok());
  EXPECT_EQ(engine.stats().segments_generated, generated);
  Consumer first(engine, open, 0, 1, 1);
  ASSERT_TRUE(first.Read(1).ok());
  EXPECT_EQ(engine.stats().segments_generated, generated + 1);
}

TEST(Engine, WhatIsCheapIsNotKept) {
  EngineOptions options = Options(1, 1 << 20);
  options.cache_seconds_per_byte = 1;
  Engine engine(options);
  const std::shared_ptr<SharedStream> open = *engine.Open(RecipeOf(kCheapRecipe), 0);
  for (const std::uint64_t generated : {8, 16}) {
    Consumer consumer(engine, open, 0, 1, 48);
    ASSERT_TRUE(consumer.Read(48).ok());
    EXPECT_EQ(engine.stats().segments_generated, generated);
    EXPECT_EQ(engine.stats().cache_bytes, 0U);
  }
}

TEST(Engine, AFeedThatIsNotReadHoldsBoundedMemory) {
  constexpr std::size_t kPrefetch = 100'000;
  Engine engine(Options(2, 0, kPrefetch));
  const std::shared_ptr<SharedStream> open = *engine.Open(RecipeOf(kCheapRecipe), 0);
  Consumer idle(engine, open, 0, 1, 1'000'000);
  ASSERT_TRUE(idle.Read(1).ok());
  const auto quiet = [&] { return engine.stats().segments_queued + engine.stats().segments_running == 0; };
  ASSERT_TRUE(WaitUntil(quiet));
  const std::uint64_t generated = engine.stats().segments_generated;
  EXPECT_LE(engine.stats().held_bytes, kPrefetch);
  EXPECT_GT(engine.stats().held_bytes, kPrefetch / 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(engine.stats().segments_generated, generated);
  // Segments that were released are requested again.
  ASSERT_TRUE(idle.Read(480).ok());
  ASSERT_TRUE(WaitUntil(quiet));
  EXPECT_GE(engine.stats().segments_generated, generated + 40);
  EXPECT_LE(engine.stats().largest_held_bytes, kPrefetch);
}

TEST(Engine, ClosingFreesTheThreadsAtOnce) {
  Engine engine(Options(2, 1 << 20, 1 << 20, 1 << 30));
  const std::shared_ptr<SharedStream> slow = *engine.Open(RecipeOf(kSlowRecipe), 0);
  {
    Consumer consumer(engine, slow, 0, 1, 1'000'000);
    ASSERT_TRUE(WaitUntil([&] { return engine.stats().segments_running == 2; }));
  }
  EXPECT_EQ(engine.stats().segments_queued, 0);
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(WaitUntil([&] { return engine.stats().segments_running == 0; }));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_EQ(engine.stats().segments_cancelled, 2U);
  EXPECT_EQ(engine.stats().segments_generated, 0U);
  EXPECT_EQ(engine.stats().held_bytes, 0U);
}

TEST(Engine, ClosingSparesWhatAnotherFeedWants) {
  Engine engine(Options(1));
  const v1::Recipe recipe = RecipeOf(kNetworkRecipe);
  const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
  auto a = std::make_unique<Consumer>(engine, open, 0, 1, 80);
  Consumer b(engine, open, 0, 1, 80);
  a = nullptr;
  const absl::StatusOr<std::string> bytes = b.Read(80);
  ASSERT_TRUE(bytes.ok());
  EXPECT_TRUE(*bytes == InProcess(recipe, 0, 0, 1, 80));
  EXPECT_EQ(engine.stats().segments_cancelled, 0U);
  EXPECT_EQ(engine.stats().segments_generated, 4U);
}

// Streams of different cost get the same core time. Without readers, both always want more within their bounds.
TEST(Engine, SharesCoresFairly) {
  Engine engine(Options(1, 0, 256 << 20, 256 << 20));
  const std::shared_ptr<SharedStream> cheap = *engine.Open(
      RecipeOf(R"({"families": [{"markov": {}}], "length": 1024, "lanes": 8, "segment_sequences": 6})"), 0);
  const std::shared_ptr<SharedStream> expensive = *engine.Open(RecipeOf(kNetworkRecipe), 0);
  Consumer a(engine, cheap, 0, 1, ~std::uint64_t{0});
  Consumer b(engine, expensive, 0, 1, ~std::uint64_t{0});
  ASSERT_TRUE(WaitUntil([&] { return engine.stats().generation_seconds > 1; }));
  const double ratio = a.reader().core_seconds() / b.reader().core_seconds();
  EXPECT_GT(ratio, 0.8);
  EXPECT_LT(ratio, 1.25);
}

TEST(Engine, ANewFeedHasNoClaimOnThePast) {
  Engine engine(Options(1, 0));
  Consumer old(engine, *engine.Open(RecipeOf(kNetworkRecipe), 0), 0, 1, ~std::uint64_t{0});
  ASSERT_TRUE(WaitUntil([&] { return old.reader().core_seconds() > 0.3 || engine.stats().segments_queued == 0; }));
  const double before = old.reader().core_seconds();
  Consumer fresh(engine, *engine.Open(RecipeOf(kNetworkRecipe), 1), 0, 1, ~std::uint64_t{0});
  std::atomic<bool> stop = false;
  std::thread reads([&] {
    while (!stop) ASSERT_TRUE(old.Read(16).ok());
  });
  std::thread reads_too([&] {
    while (!stop) ASSERT_TRUE(fresh.Read(16).ok());
  });
  ASSERT_TRUE(WaitUntil([&] { return fresh.reader().core_seconds() > 0.4; }));
  const double meanwhile = old.reader().core_seconds() - before;
  stop = true;
  reads.join();
  reads_too.join();
  EXPECT_GT(meanwhile, 0.2);  // it was not locked out until the new one had caught up
}

TEST(Engine, SegmentsOfAnEndlessPoolComeInOrder) {
  const v1::Recipe recipe = RecipeOf(kEndlessRecipe);
  Engine engine(Options(4));
  Consumer consumer(engine, *engine.Open(recipe, 0), 0, 1, 500);
  const absl::StatusOr<std::string> bytes = consumer.Read(500);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_TRUE(*bytes == InProcess(recipe, 0, 0, 1, 500));
}

// A segment of many rounds is made in turns: readers of other streams have theirs in between.
TEST(Engine, ALongSegmentLeavesOthersTheirTurn) {
  Engine engine(Options(1, 1 << 20, 1 << 20, 1 << 30));
  auto slow = std::make_unique<Consumer>(engine, *engine.Open(RecipeOf(kSlowRecipe), 0), 0, 1, 1);
  ASSERT_TRUE(WaitUntil([&] { return engine.stats().segments_running == 1; }));
  Consumer other(engine, *engine.Open(RecipeOf(kCheapRecipe), 0), 0, 1, 480);
  ASSERT_TRUE(other.Read(480).ok());
  EXPECT_EQ(engine.stats().segments_running, 1);
  EXPECT_LT(engine.stats().generation_seconds, 1.5);

  slow = nullptr;
  EXPECT_TRUE(WaitUntil([&] { return engine.stats().segments_running == 0; }, std::chrono::seconds(5)));
  EXPECT_EQ(engine.stats().segments_cancelled, 1U);
}

// Segments that are made in turns are those of the stream. A stream has no more of them in progress than threads,
// however many readers it has.
TEST(Engine, LongSegmentsAreMadeInBoundedMemory) {
  const v1::Recipe recipe = RecipeOf(R"({"families": [{"lstm": {"hidden": {"fixed": 32}}}], "length": 128, "lanes": 4,
                                         "segment_sequences": 1000, "distinct": true, "band": {"high": 0.9}})");
  Engine engine(Options(2));
  const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
  std::vector<std::unique_ptr<Consumer>> consumers;
  consumers.reserve(5);
  for (std::uint64_t i = 0; i < 5; ++i) {
    consumers.push_back(std::make_unique<Consumer>(engine, open, i * 4000 + i, 1, 3));
  }
  for (std::uint64_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(*consumers[i]->Read(3) == InProcess(recipe, 0, i * 4000 + i, 1, 3)) << i;
  }
  EXPECT_EQ(engine.stats().used_stream_bytes, 2 * open->stream().Cost().workspace_bytes);
}

// A replay of an endless pool is done in steps: readers of other streams have their turn in between.
TEST(Engine, AReplayLeavesOthersTheirTurn) {
  const v1::Recipe endless = RecipeOf(kEndlessRecipe);
  Engine engine(Options(1));
  const std::shared_ptr<SharedStream> open = *engine.Open(endless, 0);
  auto far = std::make_unique<Consumer>(engine, open, 16 * 9000, 1, 1);  // about 18 000 rounds
  ASSERT_TRUE(WaitUntil([&] { return engine.stats().segments_replaying == 1; }));
  Consumer other(engine, *engine.Open(RecipeOf(kCheapRecipe), 0), 0, 1, 480);
  ASSERT_TRUE(other.Read(480).ok());
  EXPECT_EQ(engine.stats().segments_replaying, 1);
  EXPECT_LT(engine.stats().generation_seconds, 1.5);

  // No reader is left: it ends, and the lane is free for others.
  far = nullptr;
  EXPECT_TRUE(WaitUntil([&] { return engine.stats().segments_running == 0; }, std::chrono::seconds(5)));
  EXPECT_EQ(engine.stats().segments_replaying, 0);
  EXPECT_EQ(engine.stats().segments_cancelled, 1U);
  Consumer near(engine, open, 0, 1, 100);
  EXPECT_TRUE(*near.Read(100) == InProcess(endless, 0, 0, 1, 100));
}

TEST(Engine, AReplayReachesTheSegment) {
  const v1::Recipe endless = RecipeOf(kEndlessRecipe);
  Engine engine(Options(2));
  const std::shared_ptr<SharedStream> open = *engine.Open(endless, 0);
  Consumer far(engine, open, 16 * 200 + 3, 1, 40);
  Consumer near(engine, open, 5, 1, 40);  // of the same lane, meanwhile
  EXPECT_TRUE(*far.Read(40) == InProcess(endless, 0, 16 * 200 + 3, 1, 40));
  EXPECT_TRUE(*near.Read(40) == InProcess(endless, 0, 5, 1, 40));
  EXPECT_EQ(engine.stats().segments_generated, 6U);  // those on the way are not counted
  Consumer beyond(engine, open, 16 * 50'000, 1, 1);
  EXPECT_EQ(beyond.Read(1).status().code(), absl::StatusCode::kOutOfRange);
}

// An engine continues from what another engine has kept in a folder, however many rounds there were.
TEST(Engine, AnEndlessPoolGoesOnFromASnapshot) {
  auto folder = std::make_shared<SnapshotFolder>();
  folder->path = std::filesystem::path(testing::TempDir()) / "engine_snapshots";
  folder->interval = std::chrono::milliseconds(20);
  std::filesystem::remove_all(folder->path);
  const v1::Recipe endless = RecipeOf(kEndlessRecipe);
  EngineOptions options = Options(2);
  options.snapshots = folder;
  constexpr int kFar = 16 * 10'100;  // 20 200 rounds
  std::string whole;
  {
    Engine engine(options);
    Consumer consumer(engine, *engine.Open(endless, 0), 0, 1, kFar);
    whole = *consumer.Read(kFar);
  }
  for (const bool kept : {true, false}) {
    if (!kept) std::filesystem::remove_all(folder->path);
    Engine engine(options);
    Consumer consumer(engine, *engine.Open(endless, 0), kFar - 16, 1, 16);
    const absl::StatusOr<std::string> end = consumer.Read(16);
    EXPECT_EQ(end.status().code(), kept ? absl::StatusCode::kOk : absl::StatusCode::kOutOfRange) << end.status();
    if (end.ok()) {
      EXPECT_TRUE(*end == whole.substr(whole.size() - std::size_t{16} * 32));
    }
  }
  std::filesystem::remove_all(folder->path);
}

TEST(Engine, StreamsThatNobodyUsesAreForgotten) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  Engine engine(Options(1));
  std::vector<std::shared_ptr<SharedStream>> used;
  used.reserve(40);
  for (std::uint64_t seed = 0; seed < 40; ++seed) used.push_back(*engine.Open(recipe, seed));
  EXPECT_EQ(engine.stats().streams_idle, 0);
  used.clear();
  EXPECT_EQ(engine.stats().streams_idle, 16);
  const std::shared_ptr<SharedStream> last = *engine.Open(recipe, 39);
  EXPECT_EQ(engine.stats().streams_idle, 15);
}

TEST(Engine, StreamsThatNobodyUsesTakeBoundedMemory) {
  const v1::Recipe recipe = RecipeOf(kEndlessRecipe);
  const StreamCost cost = (*Stream::Open(recipe, 0))->Cost();
  const std::size_t each = cost.workspace_bytes + cost.endless_bytes;
  EXPECT_GT(cost.endless_bytes, 34U * 64 * 32 * 2);
  EngineOptions options = Options(1, 0);
  options.idle_bytes = 3 * each;
  Engine engine(options);
  const auto read = [&](std::uint64_t seed) {
    {
      Consumer consumer(engine, *engine.Open(recipe, seed), 0, 1, 16);
      ASSERT_TRUE(consumer.Read(16).ok());
      EXPECT_EQ(engine.stats().used_stream_bytes, each);
    }
    ASSERT_TRUE(WaitUntil([&] { return engine.stats().used_stream_bytes == 0; }));  // the thread has let go, too
  };
  for (std::uint64_t seed = 0; seed < 5; ++seed) read(seed);
  EXPECT_EQ(engine.stats().streams_idle, 3);
  EXPECT_EQ(engine.stats().idle_stream_bytes, 3 * each);
  // Those used last are kept: the one that is used again outlives the others.
  read(2);
  read(7);
  read(8);
  EXPECT_EQ(engine.stats().streams_idle, 3);
  const std::shared_ptr<SharedStream> found = *engine.Open(recipe, 2);
  EXPECT_EQ(engine.stats().used_stream_bytes, each);
  // A stream that exceeds the bound of all is not kept at all.
  options.idle_bytes = each - 1;
  Engine small(options);
  {
    Consumer consumer(small, *small.Open(recipe, 0), 0, 1, 16);
    ASSERT_TRUE(consumer.Read(16).ok());
  }
  ASSERT_TRUE(WaitUntil([&] { return small.stats().used_stream_bytes == 0; }));
  EXPECT_EQ(small.stats().streams_idle, 0);
}

TEST(Engine, ErrorsReachEveryFeed) {
  // Constant rows are all of the lowest complexity, so nothing survives.
  const v1::Recipe starving = RecipeOf(R"({"families": [{"constant": {}}], "length": 64, "lanes": 2,
      "segment_sequences": 8, "band": {"low": 0.5, "high": 1}, "starvation_rounds": 5})");
  Engine engine(Options(2));
  const std::shared_ptr<SharedStream> open = *engine.Open(starving, 0);
  for (int i = 0; i < 2; ++i) {
    Consumer consumer(engine, open, 0, 1, 100);
    const absl::StatusOr<std::string> bytes = consumer.Read(10);
    EXPECT_EQ(bytes.status().code(), absl::StatusCode::kFailedPrecondition) << bytes.status();
  }
  EXPECT_GE(engine.stats().segments_failed, 2U);
}

TEST(Engine, RefusesWhatItCannotHold) {
  Engine engine(Options(1, 0, 0, /*max_stream_bytes=*/10'000));
  const std::shared_ptr<SharedStream> open = *engine.Open(RecipeOf(kNetworkRecipe), 0);
  const auto refused = engine.NewReader(open, {.count = 1'000'000}, [] {});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("4 lanes at once"));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("10000 bytes per stream"));
  // One lane of four fits.
  EXPECT_TRUE(engine.NewReader(open, {.stride = 4, .count = 1'000'000}, [] {}).ok());
  const auto beyond = engine.NewReader(open, {.first = ~std::uint64_t{0} - 5, .count = 7}, [] {});
  EXPECT_EQ(beyond.status().code(), absl::StatusCode::kOutOfRange);
}

}  // namespace
}  // namespace iterand
