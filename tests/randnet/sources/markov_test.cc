// Markov sources of fixed and of variable order. What all families promise is in families_test.cc.
#include "randnet/sources/markov.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"
#include "randnet/knob.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

using testing::HasSubstr;

constexpr int kRows = 11;
constexpr int kLength = 512;

// Rows of fixed order as the header defines them, symbol by symbol.
class Reference {
 public:
  Reference(const v1::Markov& config, int alphabet, Rng rng)
      : order_(static_cast<std::size_t>(IntegerKnob(config.order()).Draw(rng))) {
    const int k = std::min(IntegerKnob(config.symbols()).Draw(rng), alphabet);
    concentration_ = RealKnob(config.concentration()).Draw(rng);
    contexts_ = static_cast<std::uint64_t>(IntegerKnob(config.contexts()).Draw(rng));
    const std::uint64_t high = rng.Next();
    key_ = high << 32 | rng.Next();
    symbols_.resize(static_cast<std::size_t>(k));
    std::vector<Symbol> scratch;
    DrawDistinct(rng, alphabet, k, scratch, symbols_);
  }

  std::vector<Symbol> Row(Rng rng, std::size_t length) const {
    std::vector<std::uint64_t> places;
    std::vector<Symbol> row;
    while (row.size() < length) {
      const std::uint32_t word = rng.Next();
      places.push_back(places.size() < order_ ? word * std::uint64_t{symbols_.size()} >> 32 : Draw(word, places));
      row.push_back(symbols_[places.back()]);
    }
    return row;
  }

 private:
  std::uint64_t Draw(std::uint32_t word, const std::vector<std::uint64_t>& places) const {
    std::uint64_t context = 0;
    for (std::size_t back = order_; back > 0; --back) context = context << 10 | places[places.size() - back];
    if (order_ > 1) context = ((context + 1) * 0x9E3779B97F4A7C15U >> 32) * contexts_ >> 32;
    Rng rng(key_ + context * 0xD1342543DE82EF95U, context);
    std::vector<float> weights(symbols_.size());
    DrawDirichlet(rng, GammaShape(concentration_), weights);
    std::vector<Symbol> numbers(symbols_.size());
    std::iota(numbers.begin(), numbers.end(), Symbol{0});
    std::vector<AliasColumn> columns(symbols_.size());
    AliasBuilder().Build(weights, numbers, columns);
    return DrawAlias(word, columns.data(), static_cast<std::uint32_t>(columns.size()));
  }

  std::size_t order_;
  float concentration_ = 0;
  std::uint64_t contexts_ = 0;
  std::uint64_t key_ = 0;
  std::vector<Symbol> symbols_;
};

TEST(MarkovTest, RowsOfFixedOrderAreTheDefinition) {
  constexpr int kAlphabet = 50;
  for (const char* json : {
           R"({"markov": {}})",
           R"({"markov": {"order": {"fixed": 1}, "symbols": {"fixed": 60}}})",
           R"({"markov": {"order": {"fixed": 2}, "symbols": {"fixed": 7}}})",
           R"({"markov": {"order": {"fixed": 3}, "contexts": {"uniform": {"low": 1, "high": 9}}}})",
           R"({"markov": {"order": {"fixed": 6}, "symbols": {"fixed": 2}, "concentration": {"fixed": 3}}})",
       }) {
    SCOPED_TRACE(json);
    v1::Family config = FamilyConfig(json);
    FindFamily(config.kind_case())->Resolve(config);
    ProgramRunner runner(json, kRows, {.alphabet = kAlphabet, .length = 120});
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      runner.SampleAndRun(seed);
      const Reference reference(config.markov(), kAlphabet, MakeRng({.seed = seed}, Purpose::kSampleProgram));
      for (int r = 0; r < kRows; ++r) {
        ASSERT_EQ(runner.Row(r), reference.Row(RowRng({.seed = seed}).ForRow(r), 120))
            << "row " << r << ": " << runner.program().Describe();
      }
    }
  }
}

// With this concentration a context nearly always gives the same symbol.
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

// No symbol beyond k, and no more contexts than may be.
TEST(ContextTreeTest, BoundsOnContextsHold) {
  for (const int contexts : {1, 3, 4, 7, 100}) {
    ProgramRunner runner(Deterministic(R"({"depth": {"fixed": 32}, "split": {"fixed": 1}})", 4, contexts), kRows);
    runner.SampleAndRun(1);
    // A split adds three; only the bound stops splitting.
    EXPECT_THAT(runner.program().Describe(), HasSubstr(absl::StrCat(" contexts=", 1 + (contexts - 1) / 3 * 3)));
    std::set<Symbol> symbols;
    for (int r = 0; r < kRows; ++r) {
      for (const Symbol symbol : runner.Row(r)) symbols.insert(symbol);
    }
    EXPECT_LE(symbols.size(), 4U);
  }
}

// No two contexts have one row of the table: each symbol is a context here, and all differ in what follows them.
TEST(ContextTreeTest, ContextsDifferInWhatFollows) {
  constexpr std::size_t kSymbols = 64;
  constexpr int kRowLength = 16384;
  ProgramRunner runner(
      R"({"markov": {"concentration": {"fixed": 1}, "symbols": {"fixed": 64}, "contexts": {"fixed": 100},
          "tree": {"depth": {"fixed": 32}, "split": {"fixed": 1}}}})",
      kRows, {.alphabet = kSymbols, .length = kRowLength});
  runner.SampleAndRun(1);
  ASSERT_THAT(runner.program().Describe(), testing::AllOf(HasSubstr("tree depth=1 "), HasSubstr(" contexts=64")));
  std::vector<std::vector<double>> follows(kSymbols, std::vector<double>(kSymbols));
  std::vector<double> times(kSymbols);
  for (int r = 0; r < kRows; ++r) {
    const std::vector<Symbol> row = runner.Row(r);
    for (std::size_t t = 1; t < row.size(); ++t) {
      ++follows[row[t - 1]][row[t]];
      ++times[row[t - 1]];
    }
  }
  // Two Dirichlet draws of concentration 1 are about 0.5 apart; two estimates of one from 1000 symbols about 0.15.
  for (std::size_t a = 0; a < kSymbols; ++a) {
    ASSERT_GT(times[a], 1000);
    for (std::size_t b = 0; b < a; ++b) {
      double distance = 0;
      for (std::size_t s = 0; s < kSymbols; ++s) {
        distance += std::abs(follows[a][s] / times[a] - follows[b][s] / times[b]) / 2;
      }
      EXPECT_GT(distance, 0.3) << a << " and " << b;
    }
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

}  // namespace
}  // namespace iterand
