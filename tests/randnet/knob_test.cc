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
