// Expensive rounds and many first batches: no reader waits for long. Limits are in core time, which a busy machine does
// not change; bench/fairness_bench.cc measures the time that clients wait.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/engine/background_task.h"
#include "server/engine/engine.h"
#include "tests/server/engine/consumer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

// A round takes many seconds, so a segment is never complete within a test.
constexpr char kHugeRounds[] = R"({"families": [{"lstm": {"layers": {"fixed": 4}, "hidden": {"fixed": 512}}}],
    "length": 512, "lanes": 4, "segment_sequences": 56, "chain": {"rows": {"fixed": 56}}})";

// A round takes about a hundred milliseconds.
constexpr char kLongRounds[] = R"({"families": [{"lstm": {"layers": {"fixed": 2}, "hidden": {"fixed": 256}}}],
    "length": 128, "lanes": 4, "segment_sequences": 24, "chain": {"rows": {"fixed": 24}}})";

// A replay of an endless pool with rounds of about ten milliseconds.
constexpr char kLongEndlessRounds[] = R"({"families": [{"lstm": {"hidden": {"fixed": 128}}}], "length": 128,
    "lanes": 2, "segment_sequences": 16, "pool": {"pool_rows": 64, "program_rows": 32, "constant_rows": 2,
    "noise_rows": 2, "endless": true}})";

TEST(Fairness, AHugeRoundLeavesOthersTheirTurn) {
  for (const int threads : {1, 2}) {
    Engine engine(Options(threads, 0, 1 << 20, 1 << 30));
    std::vector<std::unique_ptr<Consumer>> huge;
    huge.reserve(3);
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      huge.push_back(std::make_unique<Consumer>(engine, *engine.Open(RecipeOf(kHugeRounds), seed), 0, 1, 1'000'000));
    }
    ASSERT_TRUE(WaitUntil([&] { return engine.stats().segments_running >= 3; }));
    Consumer other(engine, *engine.Open(RecipeOf(kCheapRecipe), 0), 0, 1, 1'000'000);
    // Each read waits for a few slices at most.
    for (int i = 0; i < 20; ++i) {
      const double before = engine.stats().generation_seconds;
      ASSERT_TRUE(other.Read(4800).ok());
      EXPECT_LT(engine.stats().generation_seconds - before, 2.0) << i;
    }
    // The huge ones share as well.
    ASSERT_TRUE(WaitUntil([&] { return huge[0]->reader().core_seconds() > 0.3; }));
    for (const auto& consumer : huge) EXPECT_GT(consumer->reader().core_seconds(), 0.05);
    // A segment without readers ends soon.
    const double before = engine.stats().generation_seconds;
    huge.clear();
    ASSERT_TRUE(WaitUntil([&] { return engine.stats().segments_running == 0; }));
    EXPECT_LT(engine.stats().generation_seconds - before, 2.5);
    EXPECT_EQ(engine.stats().segments_failed, 0U);
  }
}

TEST(Fairness, AnEngineEndsWithPausedRounds) {
  Engine engine(Options(1, 0, 1 << 20, 1 << 30));
  std::vector<std::unique_ptr<Consumer>> huge;
  huge.reserve(4);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    huge.push_back(std::make_unique<Consumer>(engine, *engine.Open(RecipeOf(kHugeRounds), seed), 0, 1, 1'000'000));
  }
  ASSERT_TRUE(WaitUntil([&] { return engine.stats().segments_running == 4; }));
}

TEST(Fairness, PausesChangeNoSequence) {
  for (const char* json : {kLongRounds, kLongEndlessRounds}) {
    const v1::Recipe recipe = RecipeOf(json);
    Engine engine(Options(2));
    constexpr int kStreams = 3;
    constexpr int kRows = 48;
    std::vector<std::string> read(kStreams);
    std::vector<std::thread> threads;
    threads.reserve(kStreams);
    for (std::uint64_t seed = 0; seed < kStreams; ++seed) {
      threads.emplace_back([&, seed] {
        Consumer consumer(engine, *engine.Open(recipe, seed), 0, 1, kRows);
        read[seed] = *consumer.Read(kRows);
      });
    }
    // Makes the others pause all the time.
    std::atomic<bool> stop = false;
    std::thread busy([&] {
      Consumer consumer(engine, *engine.Open(RecipeOf(kCheapRecipe), 0), 0, 1, ~std::uint64_t{0});
      while (!stop) ASSERT_TRUE(consumer.Read(480).ok());
    });
    for (std::thread& thread : threads) thread.join();
    stop = true;
    busy.join();
    for (std::uint64_t seed = 0; seed < kStreams; ++seed) {
      EXPECT_TRUE(read[seed] == InProcess(recipe, seed, 0, 1, kRows)) << json << seed;
    }
  }
}

// Many streams are opened at once, and each client continues to read after its first batch.
TEST(Fairness, FirstBatchesComeFirst) {
  constexpr std::uint64_t kStreams = 40;
  for (const int threads : {1, 2}) {
    Engine engine(Options(threads, 0));
    std::atomic<std::uint64_t> started = 0;
    std::mutex mutex;
    double needed = 0;      // core time of the first batches
    double cheap_last = 0;  // core time of all, when the last cheap stream had its first batch
    std::vector<std::thread> clients;
    std::vector<std::unique_ptr<Consumer>> consumers;
    clients.reserve(kStreams);
    consumers.reserve(kStreams);
    // Nothing is begun before all are open.
    std::atomic<bool> go = false;
    std::vector<std::unique_ptr<BackgroundTask>> brakes;
    for (int i = 0; i < threads; ++i) {
      brakes.push_back(std::make_unique<BackgroundTask>(engine.state()));
      brakes.back()->Post([&go] {
        while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      });
    }
    for (std::uint64_t i = 0; i < kStreams; ++i) {
      const char* const json = i % 4 == 3 ? kCheapRecipe : kNetworkRecipe;
      consumers.push_back(
          std::make_unique<Consumer>(engine, *engine.Open(RecipeOf(json), i),
                                     SequenceReader::Options{.count = ~std::uint64_t{0}, .first_batch_size = 64}));
    }
    for (std::uint64_t i = 0; i < kStreams; ++i) {
      clients.emplace_back([&, i] {
        Consumer& consumer = *consumers[i];
        ASSERT_TRUE(consumer.Read(64).ok());
        {
          std::lock_guard lock(mutex);
          needed += consumer.reader().core_seconds();
          if (i % 4 == 3) cheap_last = std::max(cheap_last, engine.stats().generation_seconds);
        }
        ++started;
        while (started < kStreams) ASSERT_TRUE(consumer.Read(64).ok());
      });
    }
    go = true;
    ASSERT_TRUE(WaitUntil([&] { return started == kStreams; }));
    const double all = engine.stats().generation_seconds;
    for (std::thread& client : clients) client.join();
    EXPECT_LT(all, 1.3 * needed) << threads;
    EXPECT_LT(cheap_last, 0.2 * needed) << threads;
  }
}

// Both streams are estimated at 10 ns per token at first, by which the costly one would go first for 20 ms.
TEST(Fairness, ASegmentCorrectsTheEstimateOfAFirstBatch) {
  constexpr char kCostly[] = R"({"families": [{"brainphoque": {}}], "length": 128, "lanes": 8, "segment_sequences": 16,
                                 "distinct": true})";
  constexpr char kCheap[] = R"({"families": [{"uniform": {}}], "length": 1024, "lanes": 1, "segment_sequences": 2000})";
  Engine engine(Options(1, 0, 1 << 20, 1 << 30));
  std::atomic<bool> go = false;
  BackgroundTask brake(engine.state());  // nothing is begun before both are open
  brake.Post([&go] {
    while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  Consumer costly(engine, *engine.Open(RecipeOf(kCostly), 0),
                  SequenceReader::Options{.count = 4000, .first_batch_size = 4000});
  std::atomic<std::uint64_t> generated = 0;  // segments of both streams, when the cheap one's only segment was ready
  const auto cheap = *engine.NewReader(*engine.Open(RecipeOf(kCheap), 0), {.count = 2000, .first_batch_size = 2000},
                                       [&] { generated = engine.stats().segments_generated; });
  ASSERT_EQ(*cheap->Take(1, [](const auto&, std::uint32_t) {}), 0);
  go = true;
  ASSERT_TRUE(costly.Read(4000).ok());
  EXPECT_GE(generated, 1U);
  EXPECT_LE(generated, 3U);
}

}  // namespace
}  // namespace iterand
