#include "randnet/sources/dyck.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "randnet/sources/dyck_shuffle.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

using testing::HasSubstr;

std::string Config(const std::string& family, int kinds, double open, int depth) {
  return absl::StrCat("{\"", family, R"(": {"kinds": {"fixed": )", kinds, R"(}, "open_probability": {"fixed": )", open,
                      R"(}, "max_depth": {"fixed": )", depth, "}}}");
}

TEST(DyckTest, RowsArePrefixesOfBalancedWords) {
  for (const int kinds : {1, 2, 64}) {
    for (const int depth : {1, 2, 16, 1000}) {
      ProgramRunner runner(Config("dyck", kinds, 0.55, depth), 4, {.alphabet = 256, .length = 2048});
      runner.SampleAndRun(1);
      for (int r = 0; r < 4; ++r) {
        std::vector<int> open;
        for (const int symbol : runner.Row(r)) {
          ASSERT_LT(symbol, 2 * kinds);
          if (symbol < kinds) {
            open.push_back(symbol);
            ASSERT_LE(open.size(), static_cast<std::size_t>(depth));
          } else {
            ASSERT_FALSE(open.empty());
            ASSERT_EQ(open.back(), symbol - kinds);
            open.pop_back();
          }
        }
      }
    }
  }
}

TEST(DyckShuffleTest, EveryKindIsBalancedAndKindsCross) {
  int crossings = 0;
  for (const int kinds : {1, 2, 64}) {
    for (const int depth : {1, 2, 16, 1000}) {
      ProgramRunner runner(Config("dyck_shuffle", kinds, 0.55, depth), 4, {.alphabet = 256, .length = 2048});
      runner.SampleAndRun(2);
      for (int r = 0; r < 4; ++r) {
        std::map<int, int> open;
        std::vector<int> order;
        for (const int symbol : runner.Row(r)) {
          ASSERT_LT(symbol, 2 * kinds);
          if (symbol < kinds) {
            ++open[symbol];
            order.push_back(symbol);
            ASSERT_LE(order.size(), static_cast<std::size_t>(depth));
          } else {
            ASSERT_GT(open[symbol - kinds]--, 0);
            crossings += order.back() != symbol - kinds ? 1 : 0;
            order.erase(std::find(order.begin(), order.end(), symbol - kinds));
          }
        }
      }
    }
  }
  EXPECT_GT(crossings, 1000);
}

TEST(DyckShuffleTest, ClosesOpenBracketsUniformly) {
  // With two brackets open (depth 2), either is as likely to be closed: the last one in half of the cases.
  ProgramRunner runner(Config("dyck_shuffle", 100, 1.0, 2), 1, {.alphabet = 256, .length = 20001});
  runner.SampleAndRun(3);
  const std::vector<Symbol> row = runner.Row(0);
  int last = 0;
  int pairs = 0;
  // ( then always: open, close, open, close ...: p = 1 opens whenever it may.
  for (std::size_t t = 2; t < row.size(); t += 2) {
    ASSERT_GE(row[t], 100);
    ++pairs;
    last += row[t] - 100 == row[t - 1] ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(last) / pairs, 0.5 + 0.5 * 0.01, 0.03);
}

TEST(DyckTest, OpensWithTheGivenProbabilityAndKindsAreUniform) {
  for (const std::string family : {"dyck", "dyck_shuffle"}) {
    ProgramRunner runner(Config(family, 5, 0.49, 1000), 8, {.alphabet = 256, .length = 16384});
    runner.SampleAndRun(4);
    double opens = 0;
    double decisions = 0;
    std::vector<int> kinds(5);
    for (int r = 0; r < 8; ++r) {
      int depth = 0;
      for (const int symbol : runner.Row(r)) {
        const bool open = symbol < 5;
        if (depth > 0) {
          decisions += 1;
          opens += open ? 1 : 0;
        }
        if (open) ++kinds[static_cast<std::size_t>(symbol)];
        depth += open ? 1 : -1;
      }
    }
    EXPECT_NEAR(opens / decisions, 0.49, 0.01);
    for (const int count : kinds) EXPECT_NEAR(count, 13107, 700);
  }
}

TEST(DyckTest, SmallAlphabetsLowerTheKinds) {
  ProgramRunner runner(Config("dyck", 64, 0.5, 16), 1, {.alphabet = 7, .length = 64});
  runner.SampleAndRun(5);
  EXPECT_THAT(runner.program().Describe(), HasSubstr("kinds=3 "));
}

}  // namespace
}  // namespace iterand
