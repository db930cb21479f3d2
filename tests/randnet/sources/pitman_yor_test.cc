#include "randnet/sources/pitman_yor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "randnet/base/discrete.h"
#include "randnet/knob.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

// The program as its header defines it: its draws, in their order, and the Chinese restaurant franchise.
class Reference {
 public:
  Reference(const v1::PitmanYor& config, int alphabet, const Rng& rng) : rng_(rng) {
    const IntegerKnob depth(config.depth());
    const IntegerKnob symbols(config.symbols());
    const RealKnob discount(config.discount());
    const RealKnob strength(config.strength());
    const IntegerKnob history(config.history());
    const int depth_drawn = depth.Draw(rng_);
    names_.resize(static_cast<std::size_t>(std::min(symbols.Draw(rng_), alphabet)));
    std::vector<Symbol> scratch;
    DrawDistinct(rng_, alphabet, static_cast<int>(names_.size()), scratch, names_);
    for (int m = 0; m <= depth_drawn; ++m) {
      discount_.push_back(discount.Draw(rng_));
      strength_.push_back(strength.Draw(rng_));
    }
    Text(static_cast<std::size_t>(history.Draw(rng_)));
  }

  void set_rng(const Rng& rng) { rng_ = rng; }

  std::vector<Symbol> Text(std::size_t length) {
    std::vector<std::uint32_t> text;
    std::vector<Symbol> named;
    while (text.size() < length) {
      const std::size_t longest = std::min(discount_.size() - 1, text.size());
      text.push_back(Draw({text.end() - static_cast<std::ptrdiff_t>(longest), text.end()}));
      named.push_back(names_[text.back()]);
    }
    return named;
  }

 private:
  struct Drawn {
    std::uint32_t symbol;
    bool fresh;
  };

  std::uint32_t Draw(const std::vector<std::uint32_t>& context) {
    std::vector<Drawn>& before = drawn_[context];
    const std::size_t m = context.size();
    if (!before.empty()) {
      const double place = rng_.Next() * 0x1.0p-32 * (strength_[m] + static_cast<double>(before.size()));
      const auto which = static_cast<std::size_t>(place);
      if (which < before.size() && (!before[which].fresh || place - static_cast<double>(which) >= discount_[m])) {
        before.push_back({before[which].symbol, false});
        return before.back().symbol;
      }
    }
    const std::uint32_t symbol = context.empty() ? rng_.Below(static_cast<std::uint32_t>(names_.size()))
                                                 : Draw({context.begin() + 1, context.end()});
    before.push_back({symbol, true});
    return symbol;
  }

  Rng rng_;
  std::vector<Symbol> names_;
  std::vector<double> discount_;  // by the length of the context
  std::vector<double> strength_;
  std::map<std::vector<std::uint32_t>, std::vector<Drawn>> drawn_;
};

// Rows of a few programs against the reference.
void ExpectReference(const std::string& json, std::uint64_t programs) {
  constexpr int kAlphabet = 100;
  constexpr int kLength = 700;
  SCOPED_TRACE(json);
  v1::Family config = FamilyConfig(json);
  FindFamily(config.kind_case())->Resolve(config);
  ProgramRunner runner(json, 3, {.alphabet = kAlphabet, .length = kLength});
  EXPECT_FALSE(runner.family().reads_input());
  for (std::uint64_t seed = 7; seed < 7 + programs; ++seed) {
    runner.SampleAndRun(seed);
    const Reference source(config.pitman_yor(), kAlphabet, MakeRng({.seed = seed}, Purpose::kSampleProgram));
    for (int r = 0; r < runner.rows(); ++r) {
      Reference after = source;
      after.set_rng(RowRng({.seed = seed}).ForRow(r));
      ASSERT_EQ(runner.Row(r), after.Text(kLength)) << "row " << r << ": " << runner.program().Describe();
    }
  }
}

// Discounts and strengths differ from length to length of the context.
TEST(PitmanYorTest, RowsAreTextsOfTheFranchise) {
  for (const int depth : {0, 1, 3, 16}) {
    for (const int symbols : {1, 3, 90}) {
      for (const int history : {0, 1, 500}) {
        ExpectReference(absl::StrCat(R"({"pitman_yor": {"depth": {"fixed": )", depth, R"(}, "symbols": {"fixed": )",
                                     symbols, R"(}, "history": {"fixed": )", history, "}}}"),
                        1);
      }
    }
  }
}

TEST(PitmanYorTest, KnobsAreDrawnInTheOrderOfTheHeader) {
  ExpectReference(R"({"pitman_yor": {"history": {"uniform": {"low": 0, "high": 300}}}})", 8);
}

TEST(PitmanYorTest, WithAHistoryRowsDependOnTheirOwnKeysAlone) {
  CheckRows(R"({"pitman_yor": {"history": {"fixed": 200}}})", {.alphabet = 256, .length = 96});
  CheckRows(R"({"pitman_yor": {"history": {"uniform": {"low": 0, "high": 1000}}}})", {.alphabet = 256, .length = 512});
}

TEST(PitmanYorTest, WithAHistoryTheSteadyStateAllocatesNothing) {
  CheckMemory(R"({"pitman_yor": {"history": {"uniform": {"low": 0, "high": 1000}}}})", {.alphabet = 256, .length = 96});
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

// Without discount and with hardly any strength, the symbol that once followed two symbols always follows them.
TEST(PitmanYorTest, ContextsTellWhatFollows) {
  ProgramRunner runner(
      R"({"pitman_yor": {"depth": {"fixed": 2}, "symbols": {"fixed": 5}, "discount": {"fixed": 0},
          "strength": {"fixed": 0.0001}}})",
      20, {.alphabet = 5, .length = 300});
  runner.SampleAndRun(5);
  int compared = 0;
  int wrong = 0;
  for (int r = 0; r < runner.rows(); ++r) {
    const std::vector<Symbol> row = runner.Row(r);
    std::map<std::pair<Symbol, Symbol>, Symbol> follows;
    for (std::size_t t = 2; t < row.size(); ++t) {
      const auto [before, added] = follows.emplace(std::pair(row[t - 2], row[t - 1]), row[t]);
      if (added) continue;
      ++compared;
      wrong += before->second == row[t] ? 0 : 1;
    }
  }
  EXPECT_GT(compared, 5000);
  EXPECT_LE(wrong, 3);
}

// Rows after a long history are texts by one source: they share the pairs of symbols that it prefers. Without a history
// they do not. Running again does not make the history longer.
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

}  // namespace
}  // namespace iterand
