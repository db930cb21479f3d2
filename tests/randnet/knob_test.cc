#include "randnet/knob.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

namespace iterand {
namespace {

template <typename Knob>
Knob Parse(const std::string& text) {
  Knob knob;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &knob)) << text;
  return knob;
}

// Draws follow the distribution that Expect integrates.
TEST(IntegerKnobTest, DrawsAgreeWithExpect) {
  for (const char* text : {"fixed: 7", "uniform { low: 3 high: 12 }", "log_uniform { low: 2 high: 40 }",
                           "choice { values: [1, 1, 2] }", "geometric { start: 1 proceed: 0.9 limit: 256 }"}) {
    const auto config = Parse<v1::Integer>(text);
    ASSERT_TRUE(IntegerKnob::Check(config, "knob", 0, 1000).ok()) << text;
    const IntegerKnob knob(config);
    Rng rng(11, 3);
    const int draws = 200000;
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < draws; ++i) {
      const double value = knob.Draw(rng);
      ASSERT_GE(value, knob.low());
      ASSERT_LE(value, knob.high());
      sum += value;
      squares += value * value;
    }
    const double mean = knob.mean();
    const double square = knob.Expect([](int v) { return static_cast<double>(v) * v; });
    const double deviation = std::sqrt(std::max(0.0, square - mean * mean) / draws);
    EXPECT_NEAR(sum / draws, mean, 5 * deviation + 1e-9) << config.ShortDebugString();
    EXPECT_NEAR(squares / draws / square, 1, 0.03) << config.ShortDebugString();
  }
}

// Intervals as wide as an int allows.
TEST(IntegerKnobTest, DrawsReachBothEndsOfWideIntervals) {
  constexpr std::int64_t kMost = 0x7FFFFFFF;
  for (const char* text :
       {"uniform { low: -1 high: 2147483647 }", "log_uniform { low: 1000000000 high: 2147483647 }"}) {
    const auto config = Parse<v1::Integer>(text);
    ASSERT_TRUE(IntegerKnob::Check(config, "knob", -1, kMost).ok()) << text;
    const IntegerKnob knob(config);
    Rng rng(3, 5);
    std::int64_t least = kMost;
    std::int64_t most = -1;
    for (int i = 0; i < 1000; ++i) {
      const std::int64_t value = knob.Draw(rng);
      least = std::min(least, value);
      most = std::max(most, value);
    }
    const std::int64_t span = std::int64_t{knob.high()} - knob.low();
    EXPECT_GE(least, knob.low());
    EXPECT_LT(least, knob.low() + span / 50) << config.ShortDebugString();
    EXPECT_GT(most, knob.high() - span / 50) << config.ShortDebugString();
  }
}

TEST(RealKnobTest, LogUniformIsUniformInTheLogarithm) {
  const auto config = Parse<v1::Real>("log_uniform { low: 0.001 high: 1 }");
  ASSERT_TRUE(RealKnob::Check(config, "knob", 0, 10).ok());
  const RealKnob knob(config);
  Rng rng(5, 8);
  std::map<int, int> decades;
  for (int i = 0; i < 30000; ++i) {
    const float value = knob.Draw(rng);
    ASSERT_GE(value, 0.001F);
    ASSERT_LE(value, 1.0F);
    ++decades[static_cast<int>(std::floor(std::log10(std::min(value, 0.9999F))))];
  }
  for (const int decade : {-3, -2, -1}) EXPECT_NEAR(decades[decade], 10000, 500) << decade;
}

TEST(KnobTest, ErrorsNameTheValueAndWhatIsAllowed) {
  const auto refusal = [](const std::string& text) {
    return std::string(IntegerKnob::Check(Parse<v1::Integer>(text), "k", 1, 4).message());
  };
  EXPECT_EQ(refusal("fixed: 5"), "k.fixed: is 5, must be in [1, 4]");
  EXPECT_EQ(refusal(""), "k: needs one of fixed, uniform, log_uniform, choice, geometric");
  EXPECT_EQ(refusal("uniform { low: 1 }"), "k.uniform: needs both low and high");
  EXPECT_EQ(refusal("uniform { low: 3 high: 2 }"), "k.uniform: low 3 is above high 2; low must not exceed high");
  EXPECT_EQ(refusal("uniform { low: 0 high: 2 }"), "k.uniform.low: is 0, must be in [1, 4]");
  EXPECT_EQ(refusal("log_uniform { low: 1 high: 5 }"), "k.log_uniform.high: is 5, must be in [1, 4]");
  EXPECT_EQ(refusal("choice {}"), "k.choice.values: has 0 values, must have 1 to 256");
  EXPECT_EQ(refusal("choice { values: [1, 5] }"), "k.choice.values[1]: is 5, must be in [1, 4]");
  EXPECT_EQ(refusal("geometric { start: 1 limit: 2 }"), "k.geometric: needs start, proceed and limit");
  EXPECT_EQ(refusal("geometric { start: 3 proceed: 0.5 limit: 2 }"), "k.geometric.limit: is 2, must be in [3, 4]");
  EXPECT_EQ(refusal("geometric { start: 1 proceed: 2 limit: 2 }"), "k.geometric.proceed: is 2, must be in [0, 1]");
  const auto wide = Parse<v1::Integer>("geometric { start: 0 proceed: 0.5 limit: 65537 }");
  EXPECT_EQ(IntegerKnob::Check(wide, "k", 0, 1 << 20).message(),
            "k.geometric.limit: is 65537, must be at most 65536 from start 0");
  const auto zero = Parse<v1::Integer>("log_uniform { low: 0 high: 2 }");
  EXPECT_EQ(IntegerKnob::Check(zero, "k", 0, 4).message(),
            "k.log_uniform.low: is 0, must be at least 1 for a logarithmic interval");
  const auto tiny = Parse<v1::Real>("log_uniform { low: 1e-31 high: 2 }");
  EXPECT_THAT(RealKnob::Check(tiny, "k", 0, 4).message(), testing::HasSubstr("must be at least 1e-30"));
}

}  // namespace
}  // namespace iterand
