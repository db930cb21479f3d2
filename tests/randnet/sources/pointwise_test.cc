#include "randnet/sources/pointwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"
#include "randnet/base/math.h"
#include "randnet/knob.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

constexpr int kAlphabet = 60;
constexpr int kLength = 500;

// The rows of a program as the header defines it.
std::vector<std::vector<Symbol>> Reference(const v1::Pointwise& config, std::uint64_t seed, int rows) {
  Rng rng = MakeRng({.seed = seed}, Purpose::kSampleProgram);
  const int drawn = IntegerKnob(config.symbols()).Draw(rng);
  const auto k = static_cast<std::size_t>(std::clamp(drawn, 1, kAlphabet));
  const float concentration = RealKnob(config.concentration()).Draw(rng);
  const float rest = RealKnob(config.rest_concentration()).Draw(rng);
  std::vector<Symbol> symbols(rest > 0 ? kAlphabet : k);
  std::vector<Symbol> scratch;
  DrawDistinct(rng, kAlphabet, static_cast<int>(symbols.size()), scratch, symbols);
  std::vector<float> logs(k);
  DrawLogGammas(rng, GammaShape(concentration), logs);
  if (rest > 0) {
    std::vector<float> others(symbols.size() - k);
    DrawLogGammas(rng, GammaShape(rest), others);
    logs.insert(logs.end(), others.begin(), others.end());
  }
  const float largest = *std::max_element(logs.begin(), logs.end());
  std::vector<float> weights;
  weights.reserve(logs.size());
  for (const float log : logs) weights.push_back(math::Exp(log - largest));
  std::vector<AliasColumn> columns(symbols.size());
  AliasBuilder().Build(weights, symbols, columns);
  std::vector<std::vector<Symbol>> out;
  for (int r = 0; r < rows; ++r) {
    Rng row_rng = RowRng({.seed = seed}).ForRow(r);
    out.emplace_back();
    for (int t = 0; t < kLength; ++t) {
      out.back().push_back(DrawAlias(row_rng.Next(), columns.data(), static_cast<std::uint32_t>(columns.size())));
    }
  }
  return out;
}

TEST(PointwiseTest, RowsAreTheDefinition) {
  for (
      const char* json : {
          R"({"pointwise": {}})",
          R"({"pointwise": {"symbols": {"uniform": {"low": 0, "high": 19}}, "concentration": {"fixed": 1}}})",
          R"({"pointwise": {"symbols": {"fixed": 100}}})",
          R"({"pointwise": {"symbols": {"fixed": 5}, "rest_concentration": {"log_uniform": {"low": 0.01, "high": 1}}}})",
      }) {
    SCOPED_TRACE(json);
    v1::Family config = FamilyConfig(json);
    FindFamily(config.kind_case())->Resolve(config);
    ProgramRunner runner(json, 3, {.alphabet = kAlphabet, .length = kLength});
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      runner.SampleAndRun(seed);
      const std::vector<std::vector<Symbol>> expected = Reference(config.pointwise(), seed, 3);
      for (int r = 0; r < 3; ++r) ASSERT_EQ(runner.Row(r), expected[static_cast<std::size_t>(r)]) << "row " << r;
    }
  }
}

// How often each symbol occurs in all rows of one program.
std::map<Symbol, int> Counts(const std::string& json) {
  ProgramRunner runner(json, 40, {.alphabet = kAlphabet, .length = kLength});
  runner.SampleAndRun(3);
  std::map<Symbol, int> counts;
  for (int r = 0; r < 40; ++r) {
    for (const Symbol symbol : runner.Row(r)) ++counts[symbol];
  }
  return counts;
}

// 20 000 symbols; that one of ten occurs 2000 times has a standard deviation of 42.
TEST(PointwiseTest, ALargeConcentrationIsUniformOverItsSymbols) {
  const auto counts = Counts(R"({"pointwise": {"symbols": {"fixed": 10}, "concentration": {"fixed": 10000}}})");
  EXPECT_EQ(counts.size(), 10U);
  for (const auto& [symbol, count] : counts) EXPECT_NEAR(count, 2000, 5 * 42 + 5 * 20) << symbol;
}

TEST(PointwiseTest, ASmallConcentrationIsOneSymbol) {
  const auto counts = Counts(R"({"pointwise": {"symbols": {"fixed": 10}, "concentration": {"fixed": 0.0001}}})");
  EXPECT_EQ(counts.size(), 1U);
}

TEST(PointwiseTest, OtherSymbolsOccurIfTheRecipeSaysSo) {
  const std::string few = R"({"pointwise": {"symbols": {"fixed": 3}, "concentration": {"fixed": 10000})";
  EXPECT_EQ(Counts(few + "}}").size(), 3U);
  // Of a sum of 3 x 10 000 + 57 x 100 the others have 0.16.
  auto counts = Counts(few + R"(, "rest_concentration": {"fixed": 100}}})");
  EXPECT_EQ(counts.size(), std::size_t{kAlphabet});
  std::vector<int> sorted;
  sorted.reserve(counts.size());
  for (const auto& [symbol, count] : counts) sorted.push_back(count);
  std::sort(sorted.rbegin(), sorted.rend());
  const int first_three = sorted[0] + sorted[1] + sorted[2];
  EXPECT_NEAR(first_three / 20000.0, 30000.0 / 35700, 0.02);
}

TEST(PointwiseTest, NoSymbolsReadAsOne) { EXPECT_EQ(Counts(R"({"pointwise": {"symbols": {"fixed": 0}}})").size(), 1U); }

}  // namespace
}  // namespace iterand
