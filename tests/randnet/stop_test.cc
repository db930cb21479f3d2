// Long runs end soon after they are told to, and leave nothing behind.
#include <gtest/gtest.h>

#include <atomic>
#include <ctime>
#include <string>

#include "randnet/family.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

struct LongRun {
  const char* json;
  int rows;
  int length;
};

// Each takes ten seconds and more.
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
    {R"({"markov": {"tree": {"depth": {"fixed": 32}}, "contexts": {"fixed": 8192}}})", 4096, 65536},
    {R"({"eca": {"states": {"fixed": 40}, "width": {"fixed": 65536}, "warm_up": {"fixed": 4096}}})", 64, 65536},
    {R"({"eca": {"states": {"fixed": 2}, "width": {"fixed": 8}, "warm_up": {"fixed": 4096}}})", 4096, 65536},
    {R"({"brainphoque": {"max_steps": {"fixed": 1048576}, "prior": "UNIFORM"}})", 8192, 512},
    {R"({"tape_machine": {"programs": [",[+]+[]"], "steps_per_token": {"fixed": 4096}}})", 12, 65536},
    {R"({"tape_machine": {"programs": [",[+]+[]"], "steps_per_token": {"fixed": 4096}}})", 4, 65536},
    {R"({"pcfg": {"max_depth": {"fixed": 64}}})", 8192, 65536},
    {R"({"tasks": {"kinds": ["SORT"], "items": {"fixed": 4096}}})", 8192, 65536},
    {R"({"pitman_yor": {"depth": {"fixed": 16}}})", 64, 65536},
};

class StopTest : public testing::TestWithParam<LongRun> {};

TEST_P(StopTest, LongRunsEndSoon) {
  const FamilyContext context{.alphabet = 256, .length = GetParam().length};
  const std::unique_ptr<Family> family = MakeFamily(GetParam().json, context);
  ASSERT_NE(family, nullptr);
  SampledProgram run(*family, context, 1, GetParam().rows);
  const std::atomic<bool> stop = true;
  run.program->set_stop(&stop);
  const std::clock_t before = std::clock();
  run.Run();
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 3) << GetParam().json;
}

INSTANTIATE_TEST_SUITE_P(All, StopTest, testing::ValuesIn(kLongRuns));

}  // namespace
}  // namespace iterand
