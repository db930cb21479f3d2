#include "randnet/pitman_yor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "randnet/discrete.h"
#include "tests/randnet/program_testing.h"

namespace iterand {
namespace {

using testing::HasSubstr;

// The Chinese restaurant franchise as it is defined, with one discount and one strength for all lengths of context.
class Reference {
 public:
  Reference(Rng rng, std::size_t depth, std::uint32_t symbols, double discount, double strength)
      : rng_(rng), depth_(depth), symbols_(symbols), discount_(discount), strength_(strength) {}

  void set_rng(const Rng& rng) { rng_ = rng; }

  std::vector<std::uint32_t> Text(std::size_t length) {
    std::vector<std::uint32_t> text;
    while (text.size() < length) {
      const std::size_t longest = std::min(depth_, text.size());
      text.push_back(Draw({text.end() - static_cast<std::ptrdiff_t>(longest), text.end()}));
    }
    return text;
  }

 private:
  struct Drawn {
    std::uint32_t symbol;
    bool anew;
  };

  std::uint32_t Draw(const std::vector<std::uint32_t>& context) {
    std::vector<Drawn>& before = drawn_[context];
    if (!before.empty()) {
      const double place = rng_.Next() * 0x1.0p-32 * (strength_ + static_cast<double>(before.size()));
      const auto which = static_cast<std::size_t>(place);
      if (which < before.size() && (!before[which].anew || place - static_cast<double>(which) >= discount_)) {
        before.push_back({before[which].symbol, false});
        return before.back().symbol;
      }
    }
    const std::uint32_t symbol = context.empty() ? rng_.Below(symbols_) : Draw({context.begin() + 1, context.end()});
    before.push_back({symbol, true});
    return symbol;
  }

  Rng rng_;
  std::size_t depth_;
  std::uint32_t symbols_;
  double discount_;
  double strength_;
  std::map<std::vector<std::uint32_t>, std::vector<Drawn>> drawn_;
};

TEST(PitmanYorTest, RowsAreTextsOfTheFranchise) {
  constexpr int kAlphabet = 100;
  for (const std::size_t depth : {0, 1, 3, 16}) {
    for (const int symbols : {1, 3, 90}) {
      for (const std::size_t history : {0, 1, 500}) {
        SCOPED_TRACE(absl::StrCat("depth ", depth, ", ", symbols, " symbols, history ", history));
        // The knobs are floats; these two are the same as doubles.
        ProgramRunner runner(absl::StrCat(R"({"pitman_yor": {"depth": {"fixed": )", depth,
                                          R"(}, "symbols": {"fixed": )", symbols, R"(}, "history": {"fixed": )",
                                          history, R"(}, "discount": {"fixed": 0.625}, "strength": {"fixed": 0.5}}})"),
                             3, {.alphabet = kAlphabet, .length = 700});
        EXPECT_FALSE(runner.family().reads_input());
        runner.SampleAndRun(7);
        Rng rng = MakeRng({.seed = 7}, Purpose::kSampleProgram);
        std::vector<Symbol> names(static_cast<std::size_t>(symbols));
        std::vector<Symbol> scratch;
        DrawDistinct(rng, kAlphabet, symbols, scratch, names);
        Reference source(rng, depth, static_cast<std::uint32_t>(symbols), 0.625, 0.5);
        source.Text(history);
        for (int r = 0; r < runner.rows(); ++r) {
          Reference after = source;
          after.set_rng(RowRng({.seed = 7}).ForRow(r));
          std::vector<Symbol> expected;
          for (const std::uint32_t symbol : after.Text(700)) expected.push_back(names[symbol]);
          ASSERT_EQ(runner.Row(r), expected) << "row " << r;
        }
      }
    }
  }
}

// The second symbol is the first again with (1 - d) / (1 + c), and else uniform.
TEST(PitmanYorTest, DiscountAndStrengthSayHowOftenSymbolsComeAgain) {
  constexpr int kRows = 4000;
  ProgramRunner runner(
      R"({"pitman_yor": {"depth": {"fixed": 0}, "symbols": {"fixed": 10}, "discount": {"fixed": 0.4},
          "strength": {"fixed": 2}}})",
      kRows, {.alphabet = 256, .length = 2});
  runner.SampleAndRun(3);
  int again = 0;
  for (int r = 0; r < kRows; ++r) again += runner.Row(r)[0] == runner.Row(r)[1] ? 1 : 0;
  // 0.6 / 3 + 2.4 / 3 / 10 = 0.28, with a standard deviation of 0.0071.
  EXPECT_NEAR(again / static_cast<double>(kRows), 0.28, 5 * 0.0071);
}

// Without discount and with hardly any strength, what followed two symbols once follows them always.
TEST(PitmanYorTest, ContextsTellWhatFollows) {
  ProgramRunner runner(
      R"({"pitman_yor": {"depth": {"fixed": 2}, "symbols": {"fixed": 5}, "discount": {"fixed": 0},
          "strength": {"fixed": 0.0001}}})",
      20, {.alphabet = 5, .length = 300});
  runner.SampleAndRun(5);
  int told = 0;
  int wrong = 0;
  for (int r = 0; r < runner.rows(); ++r) {
    const std::vector<Symbol> row = runner.Row(r);
    std::map<std::pair<Symbol, Symbol>, Symbol> follows;
    for (std::size_t t = 2; t < row.size(); ++t) {
      const auto [before, added] = follows.emplace(std::pair(row[t - 2], row[t - 1]), row[t]);
      if (added) continue;
      ++told;
      wrong += before->second == row[t] ? 0 : 1;
    }
  }
  EXPECT_GT(told, 5000);
  EXPECT_LE(wrong, 3);
}

// Rows after a long history are texts by one source: they have the pairs of symbols in common that it likes. Without
// one they have not. Running again does not make the history longer.
TEST(PitmanYorTest, RowsOfAHistoryHaveItsSourceInCommon) {
  for (const int history : {0, 5000}) {
    ProgramRunner runner(absl::StrCat(R"({"pitman_yor": {"depth": {"fixed": 1}, "symbols": {"fixed": 30},
        "discount": {"fixed": 0.2}, "strength": {"fixed": 0.5}, "history": {"fixed": )",
                                      history, "}}}"),
                         8, {.alphabet = 30, .length = 400});
    double shared = 0;
    constexpr int kPrograms = 20;
    for (std::uint64_t seed = 0; seed < kPrograms; ++seed) {
      runner.SampleAndRun(seed);
      std::set<std::pair<Symbol, Symbol>> pairs;
      for (int r = 0; r < 7; ++r) {
        const std::vector<Symbol> row = runner.Row(r);
        for (std::size_t t = 1; t < row.size(); ++t) pairs.emplace(row[t - 1], row[t]);
      }
      const std::vector<Symbol> last = runner.Row(7);
      int known = 0;
      for (std::size_t t = 1; t < last.size(); ++t) known += pairs.contains({last[t - 1], last[t]}) ? 1 : 0;
      shared += known / 399.0 / kPrograms;
      const std::vector<Symbol> row = runner.Row(3);
      runner.Run(seed);
      ASSERT_EQ(runner.Row(3), row) << "history " << history;
    }
    if (history > 0) {
      EXPECT_GT(shared, 0.9);
    } else {
      EXPECT_LT(shared, 0.5);
    }
  }
}

// Row r is the text that the franchise goes on with after the program's history.
TEST(PitmanYorTest, RowsDoNotDependOnRowsBesideThem) {
  const std::string json =
      R"({"pitman_yor": {"depth": {"fixed": 4}, "symbols": {"fixed": 6}, "history": {"fixed": 700}}})";
  ProgramRunner many(json, 5, {.alphabet = 6, .length = 300});
  ProgramRunner few(json, 2, {.alphabet = 6, .length = 300});
  many.SampleAndRun(9);
  few.SampleAndRun(9);
  for (int r = 0; r < 2; ++r) EXPECT_EQ(few.Row(r), many.Row(r));
}

TEST(PitmanYorTest, DescribesItsParameters) {
  ProgramRunner runner(
      R"({"pitman_yor": {"depth": {"fixed": 1}, "symbols": {"fixed": 100}, "discount": {"fixed": 0.25},
          "strength": {"fixed": 2}}})",
      1, {.alphabet = 20, .length = 16});
  runner.SampleAndRun(1);
  EXPECT_EQ(runner.program().Describe(), "depth=1 symbols=20 discount=0.25,0.25 strength=2,2 history=0");
  ProgramRunner knobs(R"({"pitman_yor": {}})", 1, {.alphabet = 256, .length = 64});
  std::set<char> depths;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    knobs.SampleAndRun(seed);
    depths.insert(knobs.program().Describe()[std::string("depth=").size()]);
  }
  EXPECT_EQ(depths, (std::set<char>{'0', '1', '2', '3', '4', '5', '6'}));
}

TEST(PitmanYorTest, RefusesBadParameters) {
  EXPECT_THAT(Refusal(R"({"pitman_yor": {"depth": {"fixed": 17}}})"),
              HasSubstr("families[0].pitman_yor.depth.fixed: is 17"));
  EXPECT_THAT(Refusal(R"({"pitman_yor": {"symbols": {"fixed": 0}}})"),
              HasSubstr("families[0].pitman_yor.symbols.fixed: is 0"));
  EXPECT_THAT(Refusal(R"({"pitman_yor": {"discount": {"fixed": 1.5}}})"),
              HasSubstr("families[0].pitman_yor.discount.fixed: is 1.5"));
  EXPECT_THAT(Refusal(R"({"pitman_yor": {"strength": {"fixed": 0}}})"),
              HasSubstr("families[0].pitman_yor.strength.fixed: is 0"));
  EXPECT_THAT(Refusal(R"({"pitman_yor": {"history": {"fixed": 70000}}})"),
              HasSubstr("families[0].pitman_yor.history.fixed: is 70000"));
}

}  // namespace
}  // namespace iterand
