#include "randnet/machines/transducer.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

TEST(TransducerTest, OneStateIsAMapOfSymbols) {
  ProgramRunner runner(R"({"transducer": {"states": {"fixed": 1}, "copy": {"fixed": 0.3}}})", 11);
  runner.NoiseInput(1);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    runner.SampleAndRun(seed);
    std::map<Symbol, Symbol> map;
    for (int r = 0; r < 11; ++r) {
      for (int t = 0; t < 512; ++t) {
        const Symbol in = runner.InputRow(r)[static_cast<std::size_t>(t)];
        const Symbol out = runner.output().row(r)[t];
        ASSERT_EQ(map.emplace(in, out).first->second, out);
      }
    }
  }
}

// Two rows that agree up to a place are written the same up to there; with few states and few classes, outputs depend
// on the history.
TEST(TransducerTest, ReadsFromLeftToRightWithMemory) {
  ProgramRunner runner(R"({"transducer": {"states": {"fixed": 16}, "classes": {"fixed": 4}, "copy": {"fixed": 0}}})", 2,
                       {.alphabet = 256, .length = 400});
  int remembered = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    runner.NoiseInput(seed);
    std::copy_n(runner.input().row(0), 400, runner.input().row(1));
    runner.input().row(1)[200] ^= 1;
    runner.SampleAndRun(seed);
    const std::vector<Symbol> a = runner.Row(0);
    const std::vector<Symbol> b = runner.Row(1);
    ASSERT_TRUE(std::equal(a.begin(), a.begin() + 200, b.begin()));
    remembered += std::equal(a.begin() + 201, a.end(), b.begin() + 201) ? 0 : 1;
  }
  EXPECT_GT(remembered, 10);
}

// A Mealy machine with S states seen through C classes: the same (state, class) gives the same result. Learns the
// states from a run of a machine whose classes and outputs are distinct enough, by counting the distinct futures.
TEST(TransducerTest, StatesAreAsManyAsDrawn) {
  // Constant input: the states visited must run into a cycle of at most S steps after at most S steps.
  ProgramRunner runner(R"({"transducer": {"states": {"fixed": 7}, "copy": {"fixed": 0}, "symbols": {"fixed": 256}}})",
                       1, {.alphabet = 256, .length = 512});
  std::set<int> periods;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    std::fill_n(runner.input().row(0), 512, static_cast<Symbol>(seed));
    runner.SampleAndRun(seed);
    const std::vector<Symbol> row = runner.Row(0);
    int period = 1;
    while (period <= 7 && !std::equal(row.begin() + 7, row.end() - period, row.begin() + 7 + period)) ++period;
    ASSERT_LE(period, 7);
    periods.insert(period);
  }
  EXPECT_GT(periods.size(), 2U);
}

// What `iterand explain` shows is the machine: with one class, the table determines the whole row.
TEST(TransducerTest, DescribesItsTable) {
  ProgramRunner runner(R"({"transducer": {"states": {"fixed": 5}, "classes": {"fixed": 1}}})", 1);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    runner.NoiseInput(seed);
    runner.SampleAndRun(seed);
    const std::string text = runner.program().Describe();
    const std::vector<std::string> table = absl::StrSplit(text.substr(text.find("table=") + 6), ';');
    ASSERT_EQ(table.size(), 5U) << text;
    std::size_t state = 0;
    for (int t = 0; t < 512; ++t) {
      const std::vector<std::string> entry = absl::StrSplit(table[state], '/');
      const int symbol = entry[1] == "=" ? runner.input().row(0)[t] : std::stoi(entry[1]);
      ASSERT_EQ(runner.output().row(0)[t], symbol) << text << " at " << t;
      state = std::stoul(entry[0]);
    }
  }
  ProgramRunner large(R"({"transducer": {"states": {"fixed": 64}, "classes": {"fixed": 64}}})", 1);
  large.SampleAndRun(1);
  EXPECT_EQ(large.program().Describe().find("table="), std::string::npos);
}

TEST(TransducerTest, CopyIsTheShareOfSymbolsKept) {
  ProgramRunner all(R"({"transducer": {"copy": {"fixed": 1}}})", 3);
  all.NoiseInput(1);
  all.SampleAndRun(1);
  for (int r = 0; r < 3; ++r) EXPECT_EQ(all.Row(r), all.InputRow(r));
  ProgramRunner half(R"({"transducer": {"copy": {"fixed": 0.5}, "states": {"fixed": 64}, "classes": {"fixed": 64}}})",
                     8);
  half.NoiseInput(2);
  half.SampleAndRun(2);
  int kept = 0;
  for (int r = 0; r < 8; ++r) {
    for (int t = 0; t < 512; ++t) kept += half.output().row(r)[t] == half.input().row(r)[t] ? 1 : 0;
  }
  EXPECT_NEAR(kept / 4096.0, 0.5, 0.06);
}

TEST(TransducerTest, BoundsItsTransitions) {
  EXPECT_EQ(Refusal(R"({"transducer": {"states": {"fixed": 1024}, "classes": {"fixed": 1024}}})"),
            "families[0].transducer.states: times families[0].transducer.classes is up to 1048576, must be at most "
            "262144");
}

}  // namespace
}  // namespace iterand
