#include "randnet/machines/eca.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

using testing::HasSubstr;

// Checks a row against the definition: every generation follows from the one before by one and the same table, which is
// learned from the row itself unless it is given.
void ExpectOneRule(const std::vector<Symbol>& row, int states, int radius, int width, std::vector<int> table) {
  std::size_t size = 1;
  for (int i = 0; i < 2 * radius + 1; ++i) size *= static_cast<std::size_t>(states);
  table.resize(size, -1);
  for (int t = width; t < static_cast<int>(row.size()); ++t) {
    const int cell = t % width;
    const int before = (t / width - 1) * width;
    std::size_t neighbourhood = 0;
    for (int d = -radius; d <= radius; ++d) {
      const int at = before + (cell + d + width) % width;
      neighbourhood = neighbourhood * static_cast<std::size_t>(states) + row[static_cast<std::size_t>(at)];
    }
    int& next = table[neighbourhood];
    if (next < 0) next = row[static_cast<std::size_t>(t)];
    ASSERT_EQ(next, row[static_cast<std::size_t>(t)]) << "cell " << cell << " of generation " << t / width;
  }
}

TEST(EcaTest, Rule110) {
  for (const int width : {8, 9, 31, 63, 64, 65, 66, 67, 100, 127, 128, 200}) {
    ProgramRunner runner(
        absl::StrCat(
            R"({"eca": {"states": {"fixed": 2}, "radius": {"fixed": 1}, "rule": {"fixed": 110}, "width": {"fixed": )",
            width, "}}}"),
        3);
    runner.NoiseInput(1);
    runner.SampleAndRun(1);
    for (int r = 0; r < 3; ++r) {
      for (int i = 0; i < width; ++i)
        ASSERT_EQ(runner.Row(r)[static_cast<std::size_t>(i)], runner.InputRow(r)[static_cast<std::size_t>(i)] % 2);
      // 110 = 01101110b: neighbourhoods 7 .. 0.
      ExpectOneRule(runner.Row(r), 2, 1, width, {0, 1, 1, 1, 0, 1, 1, 0});
    }
  }
}

TEST(EcaTest, RandomRulesOfEverySize) {
  for (const int states : {2, 3, 5, 7}) {
    for (const int radius : {1, 2, 3}) {
      if (states == 7 && radius == 3) continue;  // beyond the largest table
      if (states == 5 && radius == 3) continue;
      for (const int width : {8, 33, 64, 130}) {
        ProgramRunner runner(absl::StrCat(R"({"eca": {"states": {"fixed": )", states, R"(}, "radius": {"fixed": )",
                                          radius, R"(}, "width": {"fixed": )", width, "}}}"),
                             1, {.alphabet = 256, .length = 4096});
        runner.NoiseInput(2);
        runner.SampleAndRun(static_cast<std::uint64_t>(width));
        ExpectOneRule(runner.Row(0), states, radius, width, {});
        const std::vector<Symbol> row = runner.Row(0);
        EXPECT_LT(*std::max_element(row.begin(), row.end()), states);
      }
    }
  }
}

TEST(EcaTest, LambdaIsTheShareOfLivingEntries) {
  // One generation of a wide ring samples the table evenly.
  for (const double lambda : {0.0, 0.25, 0.75, 1.0}) {
    ProgramRunner runner(
        absl::StrCat(R"({"eca": {"states": {"fixed": 4}, "radius": {"fixed": 2}, "width": {"fixed": 8192},
                                      "lambda": {"fixed": )",
                     lambda, "}}}"),
        1, {.alphabet = 4, .length = 16384});
    runner.NoiseInput(3);
    runner.SampleAndRun(3);
    double living = 0;
    for (int t = 8192; t < 16384; ++t) living += runner.output().row(0)[t] != 0 ? 1 : 0;
    EXPECT_NEAR(living / 8192, lambda, 0.08);
  }
}

TEST(EcaTest, InitialStates) {
  ProgramRunner single(R"({"eca": {"initial": "SINGLE", "width": {"fixed": 64}}})", 2);
  single.SampleAndRun(4);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(single.Row(1)[static_cast<std::size_t>(i)], i == 32 ? 1 : 0);
  EXPECT_FALSE(single.family().reads_input());
  ProgramRunner random(R"({"eca": {"initial": "RANDOM", "width": {"fixed": 64}}})", 2);
  random.SampleAndRun(5);
  EXPECT_NE(random.Row(0), random.Row(1));
  EXPECT_FALSE(random.family().reads_input());
}

TEST(EcaTest, WarmUpSkipsGenerations) {
  for (const int states : {2, 3}) {
    const std::string start = absl::StrCat(R"({"eca": {"width": {"fixed": 32}, "states": {"fixed": )", states, "}");
    ProgramRunner whole(start + "}}", 1);
    ProgramRunner later(start + R"(, "warm_up": {"fixed": 3}}})", 1);
    whole.NoiseInput(6);
    later.NoiseInput(6);
    whole.SampleAndRun(6);
    later.SampleAndRun(6);
    const std::vector<Symbol> a = whole.Row(0);
    const std::vector<Symbol> b = later.Row(0);
    EXPECT_TRUE(std::equal(a.begin() + 96, a.end(), b.begin()));
  }
}

TEST(EcaTest, RefusesRulesBeyondTheTable) {
  const auto of = [](int states, int radius, std::int64_t rule) {
    return absl::StrCat(R"({"eca": {"states": {"fixed": )", states, R"(}, "radius": {"fixed": )", radius,
                        R"(}, "rule": {"fixed": )", rule, "}}}");
  };
  EXPECT_TRUE(TryMakeFamily(of(2, 1, 255), {}).ok());
  EXPECT_THAT(Refusal(of(2, 1, 256)), HasSubstr("families[0].eca.rule: is up to 256, must be in [-1, 255]"));
  EXPECT_TRUE(TryMakeFamily(of(2, 2, 2147483647), {}).ok());
  // Where the alphabet has fewer symbols than the rule states, the automaton has fewer states.
  EXPECT_TRUE(TryMakeFamily(of(3, 1, 300), {}).ok());
  EXPECT_THAT(Refusal(of(3, 1, 300), {.alphabet = 2, .length = 64}), HasSubstr("[-1, 255] for 2 states and radius 1"));
}

// A number is a different rule for other states or another radius.
TEST(EcaTest, ARuleWantsOneNumberOfStatesAndOneRadius) {
  EXPECT_THAT(
      Refusal(R"({"eca": {"rule": {"fixed": 110}}})"),
      HasSubstr(
          "families[0].eca.rule: is up to 110, but states go from 2 to 4 and radius from 1 to 2; a number is a rule "
          "only for one of each: set both, such as states 2 and radius 1"));
  EXPECT_THAT(Refusal(R"({"eca": {"rule": {"fixed": 300}, "states": {"choice": {"values": [2, 3]}}, "radius":
                         {"fixed": 1}}})"),
              HasSubstr("states go from 2 to 3"));
  EXPECT_THAT(Refusal(R"({"eca": {"rule": {"choice": {"values": [-1, 30]}}, "states": {"fixed": 2}}})"),
              HasSubstr("radius from 1 to 2"));
  EXPECT_TRUE(TryMakeFamily(R"({"eca": {"rule": {"uniform": {"low": -1, "high": 255}}, "states": {"fixed": 2}, "radius":
                               {"fixed": 1}}})")
                  .ok());
}

}  // namespace
}  // namespace iterand
