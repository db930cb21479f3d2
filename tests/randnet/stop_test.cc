// Long runs end soon after they are stopped. (family_checks tests that later runs are unaffected.)
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/thread_clock.h"
#include "randnet/family.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

#if defined(__OPTIMIZE__) && !defined(ITERAND_SANITIZED)
constexpr bool kIsOptimised = true;
#else
constexpr bool kIsOptimised = false;
#endif

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

// Notes the longest core time between two looks at whether to stop.
class LookMeter final : public RunControl::Pauser {
 public:
  explicit LookMeter(RunControl* control) : control_(control) {
    control_->set_pauser(this);
    control_->RequestPause();
  }
  void Begin() { last_ = ThreadSeconds(); }
  void Pause() override {
    const double now = ThreadSeconds();
    longest_ = std::max(longest_, now - last_);
    last_ = now;
    control_->RequestPause();
  }
  double longest() const { return longest_; }

 private:
  RunControl* const control_;
  double last_ = ThreadSeconds();
  double longest_ = 0;
};

// The largest programs that a recipe may request.
const LongRun kLargeRuns[] = {
    {R"({"lstm": {"layers": {"fixed": 4}, "hidden": {"fixed": 1024}}})", 56, 512},
    {R"({"gru": {"layers": {"fixed": 4}, "hidden": {"fixed": 1024}}})", 56, 512},
    {R"({"mlp_window": {"layers": {"fixed": 4}, "hidden": {"fixed": 1024}}})", 64, 512},
    {R"({"state_space": {"layers": {"fixed": 4}, "width": {"fixed": 1024}}})", 56, 512},
    {R"({"transformer": {"mode": "SEQUENTIAL", "width": {"fixed": 512}}})", 56, 512},
};

// The longest core time between two looks of a run that is stopped after 600 ms.
double LongestWithoutLook(const Family& family, const FamilyContext& context, const LongRun& wanted) {
  SampledProgram run(family, context, 1, wanted.rows);
  RunControl control;
  LookMeter meter(&control);
  run.program->set_stop(&control);
  const std::jthread later([&control] {
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    control.Stop();
  });
  meter.Begin();
  run.Run();
  return meter.longest();
}

// Any computation must be able to pause within a few milliseconds, also while it draws programs.
TEST(StopTest, ComputationsLookOften) {
  std::vector<LongRun> runs(std::begin(kLongRuns), std::end(kLongRuns));
  runs.insert(runs.end(), std::begin(kLargeRuns), std::end(kLargeRuns));
  for (const LongRun& wanted : runs) {
    const FamilyContext context{.alphabet = 256, .length = wanted.length};
    const std::unique_ptr<Family> family = MakeFamily(wanted.json, context);
    ASSERT_NE(family, nullptr);
    // Other work on the machine only lengthens what is measured, so the shortest of a few runs counts. Unoptimised and
    // sanitized builds are about ten times slower.
    const double bound = kIsOptimised ? 0.05 : 1;
    double longest = std::numeric_limits<double>::infinity();
    for (int tries = 0; tries < 3 && longest >= bound; ++tries) {
      longest = std::min(longest, LongestWithoutLook(*family, context, wanted));
    }
    EXPECT_LT(longest, bound) << wanted.json;
    RecordProperty("longest", std::to_string(longest));
    std::printf("%6.1f ms  %s\n", 1e3 * longest, wanted.json);
  }
}

// A program of many weights that is stopped before it is drawn is not drawn.
TEST(StopTest, DrawingEndsSoon) {
  for (const char* json : {kLargeRuns[0].json, kLargeRuns[1].json, kLargeRuns[3].json, kLargeRuns[4].json}) {
    const FamilyContext context{.alphabet = 256, .length = 512};
    const std::unique_ptr<Family> family = MakeFamily(json, context);
    ASSERT_NE(family, nullptr);
    const std::unique_ptr<Program> program = family->NewProgram(8);
    Rng rng = MakeRng(RandomKey{}, Purpose::kSampleProgram);
    std::clock_t spent[3];
    RunControl control;
    program->set_stop(&control);
    for (std::clock_t& time : spent) {
      if (&time == &spent[2]) control.Stop();
      const std::clock_t before = std::clock();
      program->Sample(rng);
      time = std::clock() - before;
    }
    EXPECT_LT(spent[2], spent[1] / 2) << json;
  }
}

}  // namespace
}  // namespace iterand
