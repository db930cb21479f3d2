// Long runs end soon after they are told to. (That later ones are none the worse is one of family_checks.)
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <memory>
#include <thread>

#include "randnet/family.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

struct LongRun {
  const char* json;
  int rows;
  int length;
};

// Each takes many seconds.
const LongRun kLongRuns[] = {
    {R"({"lstm": {"layers": {"fixed": 4}, "hidden": {"fixed": 256}}})", 16, 65536},
    {R"({"gru": {"layers": {"fixed": 4}, "hidden": {"fixed": 256}}})", 16, 65536},
    {R"({"rnn": {"layers": {"fixed": 8}, "hidden": {"fixed": 256}}})", 24, 65536},
    {R"({"mlp_window": {"layers": {"fixed": 8}, "hidden": {"fixed": 256}}})", 32, 65536},
    {R"({"state_space": {"layers": {"fixed": 8}, "width": {"fixed": 256}}})", 16, 65536},
    {R"({"reservoir": {"width": {"fixed": 2048}, "connections": {"fixed": 64}}})", 64, 65536},
    {R"({"transformer": {"width": {"fixed": 256}, "layers": {"fixed": 4}}})", 1, 32768},
    {R"({"transformer": {"mode": "SEQUENTIAL", "width": {"fixed": 256}}})", 16, 32768},
    {R"({"nca": {"height": 64, "width": 64, "hidden": {"fixed": 256}, "warm_up": {"fixed": 1000}}})", 64, 512},
    {R"({"eca": {"states": {"fixed": 40}, "width": {"fixed": 65536}, "warm_up": {"fixed": 4096}}})", 64, 65536},
    {R"({"eca": {"states": {"fixed": 2}, "radius": {"fixed": 3}, "width": {"fixed": 65536}, "warm_up":
     {"fixed": 4096}}})",
     512, 65536},
    {R"({"tape_machine": {"programs": [",[+]+[]"], "steps_per_token": {"fixed": 4096}}})", 12, 65536},
    {R"({"tape_machine": {"programs": [",[+]+[]"], "steps_per_token": {"fixed": 4096}}})", 4, 65536},
    {R"({"pitman_yor": {"depth": {"fixed": 16}}})", 64, 65536},
};

TEST(StopTest, LongRunsEndSoon) {
  for (const LongRun& wanted : kLongRuns) {
    const FamilyContext context{.alphabet = 256, .length = wanted.length};
    const std::unique_ptr<Family> family = MakeFamily(wanted.json, context);
    ASSERT_NE(family, nullptr);
    SampledProgram run(*family, context, 1, wanted.rows);
    RunControl stop;
    run.program->set_stop(&stop);
    const std::clock_t before = std::clock();
    const std::jthread later([&stop] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      stop.Stop();
    });
    run.Run();
    EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 3) << wanted.json;
  }
}

}  // namespace
}  // namespace iterand
