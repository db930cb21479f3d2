#include "randnet/knob.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace iterand {
namespace {

v1::Integer Geometric(std::int64_t start, double proceed, std::int64_t limit) {
  v1::Integer config;
  DefaultGeometric(&config, start, proceed, limit);
  return config;
}

// Draws follow the distribution that Expect integrates.
TEST(IntegerKnobTest, DrawsAgreeWithExpect) {
  std::vector<v1::Integer> configs(5);
  DefaultFixed(&configs[0], 7);
  DefaultUniform(&configs[1], 3, 12);
  DefaultLogUniform(&configs[2], 2, 40);
  DefaultChoice(&configs[3], {1, 1, 2});
  configs[4] = Geometric(1, 0.9, 256);
  for (const v1::Integer& config : configs) {
    const auto knob = IntegerKnob::Make(config, "knob", 0, 1000);
    ASSERT_TRUE(knob.ok()) << knob.status();
    Rng rng(11, 3);
    const int draws = 200000;
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < draws; ++i) {
      const double value = knob->Draw(rng);
      ASSERT_GE(value, knob->low());
      ASSERT_LE(value, knob->high());
      sum += value;
      squares += value * value;
    }
    const double mean = knob->mean();
    const double square = knob->Expect([](int v) { return static_cast<double>(v) * v; });
    const double deviation = std::sqrt(std::max(0.0, square - mean * mean) / draws);
    EXPECT_NEAR(sum / draws, mean, 5 * deviation + 1e-9) << config.ShortDebugString();
    EXPECT_NEAR(squares / draws / square, 1, 0.03) << config.ShortDebugString();
  }
}

// Intervals as wide as an int allows.
TEST(IntegerKnobTest, DrawsReachBothEndsOfWideIntervals) {
  constexpr std::int64_t kMost = 0x7FFFFFFF;
  v1::Integer uniform;
  DefaultUniform(&uniform, -1, kMost);
  v1::Integer log_uniform;
  DefaultLogUniform(&log_uniform, 1'000'000'000, kMost);
  for (const v1::Integer& config : {uniform, log_uniform}) {
    const auto knob = IntegerKnob::Make(config, "knob", -1, kMost);
    ASSERT_TRUE(knob.ok()) << knob.status();
    Rng rng(3, 5);
    std::int64_t least = kMost;
    std::int64_t most = -1;
    for (int i = 0; i < 1000; ++i) {
      const std::int64_t value = knob->Draw(rng);
      least = std::min(least, value);
      most = std::max(most, value);
    }
    const std::int64_t span = std::int64_t{knob->high()} - knob->low();
    EXPECT_GE(least, knob->low());
    EXPECT_LT(least, knob->low() + span / 50) << config.ShortDebugString();
    EXPECT_GT(most, knob->high() - span / 50) << config.ShortDebugString();
  }
}

TEST(RealKnobTest, LogUniformIsUniformInTheLogarithm) {
  v1::Real config;
  DefaultLogUniform(&config, 0.001, 1);
  const auto knob = RealKnob::Make(config, "knob", 0, 10);
  ASSERT_TRUE(knob.ok());
  Rng rng(5, 8);
  std::map<int, int> decades;
  for (int i = 0; i < 30000; ++i) {
    const float value = knob->Draw(rng);
    ASSERT_GE(value, 0.001F);
    ASSERT_LE(value, 1.0F);
    ++decades[static_cast<int>(std::floor(std::log10(std::min(value, 0.9999F))))];
  }
  for (const int decade : {-3, -2, -1}) EXPECT_NEAR(decades[decade], 10000, 500) << decade;
}

TEST(KnobTest, AlphabetLimitsAreTheFamilys) {
  v1::Integer config;
  DefaultFixed(&config, 5);
  const auto knob = IntegerKnob::Make(config, "families[0].lstm.layers", 1, 4);
  EXPECT_EQ(knob.status().message(), "families[0].lstm.layers.fixed: is 5, must lie within [1, 4]");
}

}  // namespace
}  // namespace iterand
