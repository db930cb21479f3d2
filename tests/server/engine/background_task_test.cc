#include "server/engine/background_task.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "common/thread_clock.h"
#include "server/engine/engine.h"
#include "tests/server/engine/consumer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

// Uses this much core time.
void Burn(double seconds) {
  for (const double end = ThreadSeconds() + seconds; ThreadSeconds() < end;) continue;
}

TEST(BackgroundTask, PiecesAreRunOnce) {
  Engine engine(Options(2));
  BackgroundTask task(engine.state());
  std::atomic<int> calls = 0;
  for (int i = 1; i <= 3; ++i) {
    task.Post([&calls] { ++calls; });
    ASSERT_TRUE(WaitUntil([&] { return calls == i; }));
  }
}

TEST(BackgroundTask, APieceThatHasNotBegunIsDropped) {
  Engine engine(Options(1));
  std::atomic<bool> begun = false;
  std::atomic<bool> end = false;
  std::atomic<bool> dropped_ran = false;
  BackgroundTask first(engine.state());
  first.Post([&] {
    begun = true;
    while (!end) std::this_thread::yield();
  });
  ASSERT_TRUE(WaitUntil([&] { return begun.load(); }));
  std::make_unique<BackgroundTask>(engine.state())->Post([&] { dropped_ran = true; });
  end = true;
  std::atomic<bool> last_ran = false;
  BackgroundTask last(engine.state());
  last.Post([&] { last_ran = true; });
  ASSERT_TRUE(WaitUntil([&] { return last_ran.load(); }));
  EXPECT_FALSE(dropped_ran);
}

TEST(BackgroundTask, SharesTheCoresWithReaders) {
  Engine engine(Options(1, 0, 1 << 20, 256 << 20));
  Consumer reader(engine, *engine.Open(RecipeOf(kNetworkRecipe), 0), 0, 1, ~std::uint64_t{0});
  std::atomic<bool> stop = false;
  std::thread client([&] {
    while (!stop) ASSERT_TRUE(reader.Read(80).ok());
  });
  BackgroundTask task(engine.state());
  std::function<void()> piece = [&] {
    Burn(3e-3);
    if (!stop) task.Post(piece);
  };
  const EngineStats before = engine.stats();
  task.Post(piece);
  ASSERT_TRUE(WaitUntil([&] { return engine.stats().background_seconds > 0.5; }));
  const EngineStats after = engine.stats();
  stop = true;
  client.join();
  const double ratio = (after.generation_seconds - before.generation_seconds) / after.background_seconds;
  EXPECT_GT(ratio, 0.7);
  EXPECT_LT(ratio, 1.4);
  // The last piece ends before what it uses is destroyed.
  std::atomic<bool> over = false;
  BackgroundTask last(engine.state());
  last.Post([&] { over = true; });
  ASSERT_TRUE(WaitUntil([&] { return over.load(); }));
}

}  // namespace
}  // namespace iterand
