// Halts, which a fork needs.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "server/engine/engine.h"
#include "tests/server/engine/consumer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

TEST(EngineHalt, StreamsContinueWhereTheyWere) {
  for (const char* const text : {kCheapRecipe, kNetworkRecipe, kEndlessRecipe}) {
    const v1::Recipe recipe = RecipeOf(text);
    constexpr int kRows = 600;
    Engine engine(Options(3, 0));
    Consumer consumer(engine, *engine.Open(recipe, 0), {.count = kRows, .first_batch_size = 20});
    std::string bytes;
    for (int rows = 0; rows < kRows; rows += 20) {
      engine.Halt();
      engine.Continue();
      bytes += *consumer.Read(20);
      engine.Halt();
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      engine.Continue();
    }
    EXPECT_TRUE(bytes == InProcess(recipe, 0, 0, 1, kRows)) << text;
  }
}

TEST(EngineHalt, NothingIsComputedMeanwhile) {
  Engine engine(Options(4, 0));
  const std::shared_ptr<SharedStream> stream = *engine.Open(RecipeOf(kNetworkRecipe), 0);
  const Consumer consumer(engine, stream, {.count = 1'000'000});
  const auto cpu_seconds = [] {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  engine.Halt();
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu_seconds() - before, 0.05);
  engine.Continue();
}

// A child makes an engine of its own. The parent's engine leaves no lock behind.
TEST(EngineHalt, AChildProcessGeneratesAsTheParentDoes) {
  const v1::Recipe recipe = RecipeOf(kNetworkRecipe);
  const std::string expected = InProcess(recipe, 1, 0, 1, 64);
  Engine engine(Options(3, 0));
  const std::shared_ptr<SharedStream> stream = *engine.Open(recipe, 0);
  Consumer consumer(engine, stream, {.count = 1'000'000});
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(consumer.Read(8).ok());
    engine.Halt();
    const pid_t child = fork();
    if (child == 0) {
      Engine& own = *new Engine(Options(2, 0));
      Consumer& its = *new Consumer(own, *own.Open(recipe, 1), 0, 1, 64);
      const absl::StatusOr<std::string> bytes = its.Read(64);
      _exit(bytes.ok() && *bytes == expected ? 0 : 1);
    }
    engine.Continue();
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
}

}  // namespace
}  // namespace iterand
