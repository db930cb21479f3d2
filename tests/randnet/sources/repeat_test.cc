#include "randnet/sources/repeat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

using testing::Each;
using testing::Lt;

TEST(RepeatTest, RowsRepeatWordsOfTheirOwn) {
  ProgramRunner runner(R"({"repeat": {"period": {"fixed": 37}, "symbols": {"fixed": 9}}})", 50,
                       {.alphabet = 100, .length = 500});
  EXPECT_FALSE(runner.family().reads_input());
  runner.SampleAndRun(1);
  std::set<std::vector<Symbol>> words;
  std::vector<int> counts(9);
  for (int r = 0; r < runner.rows(); ++r) {
    const std::vector<Symbol> row = runner.Row(r);
    EXPECT_THAT(row, Each(Lt(9)));
    for (std::size_t t = 37; t < row.size(); ++t) ASSERT_EQ(row[t], row[t - 37]) << t;
    words.emplace(row.begin(), row.begin() + 37);
    for (std::size_t t = 0; t < 37; ++t) ++counts[row[t]];
  }
  EXPECT_EQ(words.size(), 50U);
  for (const int count : counts) EXPECT_NEAR(count, 50 * 37 / 9.0, 60);  // 4 standard deviations
}

TEST(RepeatTest, AWordOfOneSymbolIsConstant) {
  ProgramRunner runner(R"({"repeat": {"period": {"fixed": 8}, "symbols": {"fixed": 1}}})", 2,
                       {.alphabet = 4, .length = 32});
  runner.SampleAndRun(1);
  for (int r = 0; r < runner.rows(); ++r) EXPECT_THAT(runner.Row(r), Each(Symbol{0}));
}

TEST(RepeatTest, ReadsTheBeginningOfItsInput) {
  ProgramRunner runner(
      R"({"repeat": {"period": {"uniform": {"low": 1, "high": 20}}, "symbols": {"fixed": 7}, "source": "ROW"}})", 3,
      {.alphabet = 100, .length = 64});
  EXPECT_TRUE(runner.family().reads_input());
  runner.NoiseInput(1);
  std::set<std::string> programs;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    runner.SampleAndRun(seed);
    const std::string text = runner.program().Describe();
    programs.insert(text);
    const std::size_t period = std::stoul(text.substr(std::string("period=").size()));
    ASSERT_TRUE(period >= 1 && period <= 20) << text;
    for (int r = 0; r < 3; ++r) {
      for (std::size_t t = 0; t < 64; ++t) ASSERT_EQ(runner.Row(r)[t], runner.InputRow(r)[t % period] % 7);
    }
  }
  EXPECT_EQ(programs.size(), 20U);
}

TEST(RepeatTest, MasksWhatTheWindowTells) {
  ProgramRunner runner(R"({"repeat": {"period": {"fixed": 5}}})", 1, {.alphabet = 256, .length = 16});
  runner.SampleAndRun(1);
  std::vector<std::uint8_t> mask(16);
  runner.program().MarkTargets(0, runner.Row(0), mask);
  EXPECT_EQ(mask, (std::vector<std::uint8_t>{0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(RepeatTest, IsLoweredToRowAndAlphabet) {
  ProgramRunner runner(R"({"repeat": {"period": {"fixed": 1000}}})", 1, {.alphabet = 20, .length = 16});
  runner.SampleAndRun(1);
  EXPECT_EQ(runner.program().Describe(), "period=16 symbols=20");
  std::vector<std::uint8_t> mask(16, 2);
  runner.program().MarkTargets(0, runner.Row(0), mask);
  EXPECT_THAT(mask, Each(0));
}

}  // namespace
}  // namespace iterand
