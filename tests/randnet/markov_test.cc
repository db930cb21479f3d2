// Markov sources of variable order. What all families promise, and the sources of fixed order, are in families_test.cc
// and in the goldens.
#include "randnet/markov.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/randnet/program_testing.h"

namespace iterand {
namespace {

using testing::HasSubstr;

constexpr int kRows = 11;
constexpr int kLength = 512;

// With this concentration a context all but always gives the same symbol.
std::string Deterministic(const std::string& tree, int symbols, int contexts) {
  return absl::StrCat(R"({"markov": {"concentration": {"fixed": 0.0001}, "symbols": {"fixed": )", symbols,
                      R"(}, "contexts": {"fixed": )", contexts, R"(}, "tree": )", tree, "}}");
}

// How many of the strings of `length` symbols that occur from place `first` on are followed by more than one symbol.
int Undecided(ProgramRunner& runner, int length, int first) {
  std::map<std::vector<Symbol>, std::set<Symbol>> next;
  for (int r = 0; r < kRows; ++r) {
    const std::vector<Symbol> row = runner.Row(r);
    for (int t = first; t < kLength; ++t) {
      next[{row.begin() + t - length, row.begin() + t}].insert(row[static_cast<std::size_t>(t)]);
    }
  }
  int undecided = 0;
  for (const auto& [context, followers] : next) undecided += followers.size() > 1 ? 1 : 0;
  return undecided;
}

TEST(ContextTreeTest, FullDepthDecidesAndLessDoesSometimes) {
  constexpr int kDepth = 5;
  ProgramRunner runner(
      Deterministic(R"({"depth": {"fixed": 5}, "split": {"fixed": 0.6}})", /*symbols=*/2, /*contexts=*/512), kRows);
  std::map<int, int> programs;  // by the least number of symbols that always decides
  int mixed = 0;                // programs in which one symbol decides after one symbol and not after the other
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    runner.SampleAndRun(seed);
    ASSERT_EQ(Undecided(runner, kDepth, kDepth), 0) << seed << ": " << runner.program().Describe();
    int depth = 0;
    while (Undecided(runner, depth, kDepth) > 0) ++depth;
    ++programs[depth];
    mixed += Undecided(runner, 1, kDepth) == 1 ? 1 : 0;
  }
  for (int depth = 0; depth <= 3; ++depth) EXPECT_GT(programs[depth], 0) << depth;
  EXPECT_GT(mixed, 10);
}

TEST(ContextTreeTest, SplitsAlwaysOrNever) {
  ProgramRunner never(Deterministic(R"({"split": {"fixed": 0}})", 4, 512), kRows);
  ProgramRunner always(Deterministic(R"({"depth": {"fixed": 2}, "split": {"fixed": 1}})", 4, 16), kRows);
  int undecided = 0;
  int exceptions = 0;  // contexts whose two largest weights are near each other even so
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    never.SampleAndRun(seed);
    EXPECT_THAT(never.program().Describe(), testing::AllOf(HasSubstr("tree depth=0 "), HasSubstr(" contexts=1")));
    EXPECT_EQ(Undecided(never, 0, 0), 0);
    always.SampleAndRun(seed);
    EXPECT_THAT(always.program().Describe(), testing::AllOf(HasSubstr("tree depth=2 "), HasSubstr(" contexts=16")));
    exceptions += Undecided(always, 2, 2);
    undecided += Undecided(always, 1, 2);
  }
  EXPECT_GT(undecided, 50);
  EXPECT_LE(exceptions, 3);
}

// No symbol beyond k, and no two contexts with one row: with as many contexts as there are, all differ in what follows.
TEST(ContextTreeTest, BoundsOnContextsHold) {
  for (const int contexts : {1, 3, 4, 7, 100}) {
    ProgramRunner runner(Deterministic(R"({"depth": {"fixed": 32}, "split": {"fixed": 1}})", 4, contexts), kRows);
    runner.SampleAndRun(1);
    // A split adds three; nothing but the bound stops splitting.
    EXPECT_THAT(runner.program().Describe(), HasSubstr(absl::StrCat(" contexts=", 1 + (contexts - 1) / 3 * 3)));
    std::set<Symbol> symbols;
    for (int r = 0; r < kRows; ++r) {
      for (const Symbol symbol : runner.Row(r)) symbols.insert(symbol);
    }
    EXPECT_LE(symbols.size(), 4U);
  }
}

// A row is a function of its own key: the same alone and beside others.
TEST(ContextTreeTest, RowsDoNotDependOnTheirNeighbours) {
  const std::string json = R"({"markov": {"tree": {}}})";
  ProgramRunner many(json, kRows);
  ProgramRunner one(json, 1);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    many.SampleAndRun(seed);
    one.SampleAndRun(seed);
    EXPECT_EQ(many.Row(0), one.Row(0));
    EXPECT_EQ(many.program().Describe(), one.program().Describe());
  }
}

TEST(ContextTreeTest, ShortRowsAndOneSymbol) {
  ProgramRunner brief(R"({"markov": {"tree": {"depth": {"fixed": 32}, "split": {"fixed": 1}}}})", 3,
                      {.alphabet = 256, .length = 16});
  brief.SampleAndRun(1);
  ProgramRunner single(Deterministic(R"({"depth": {"fixed": 32}, "split": {"fixed": 1}})", 1, 512), kRows);
  single.SampleAndRun(1);
  EXPECT_THAT(single.program().Describe(), HasSubstr("tree depth=32 "));
  EXPECT_EQ(Undecided(single, 0, 0), 0);
}

TEST(ContextTreeTest, RefusesBadParameters) {
  EXPECT_THAT(Refusal(R"({"markov": {"tree": {"depth": {"fixed": 33}}}})"),
              HasSubstr("families[0].markov.tree.depth.fixed: is 33"));
  EXPECT_THAT(Refusal(R"({"markov": {"tree": {"split": {"fixed": 1.5}}}})"),
              HasSubstr("families[0].markov.tree.split.fixed: is 1.5"));
}

}  // namespace
}  // namespace iterand
