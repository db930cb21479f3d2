// What every family promises (randnet/program.h), tested on the defaults of each.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "randnet/family.h"
#include "tests/randnet/program_testing.h"

namespace iterand {
namespace {

class FamiliesTest : public testing::TestWithParam<const FamilyEntry*> {
 protected:
  static std::string Json() { return absl::StrCat("{\"", std::string(GetParam()->name), "\": {}}"); }
};

TEST_P(FamiliesTest, RowsDoNotDependOnOneAnother) {
  const FamilyContext context{.alphabet = 256, .length = 96};
  ProgramRunner three(Json(), 3, context);
  ProgramRunner eight(Json(), 8, context);
  ProgramRunner one(Json(), 1, context);
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    three.NoiseInput(seed);
    eight.NoiseInput(seed);
    one.NoiseInput(seed);
    three.SampleAndRun(seed);
    eight.SampleAndRun(seed);
    one.SampleAndRun(seed);
    for (int r = 0; r < 3; ++r) ASSERT_EQ(three.Row(r), eight.Row(r)) << "seed " << seed << ", row " << r;
    ASSERT_EQ(one.Row(0), eight.Row(0)) << "seed " << seed;
  }
}

TEST_P(FamiliesTest, ProgramObjectsForgetThePastProgram) {
  const FamilyContext context{.alphabet = 256, .length = 96};
  ProgramRunner used(Json(), 2, context);
  used.NoiseInput(1);
  for (std::uint64_t seed = 0; seed < 20; ++seed) used.SampleAndRun(seed);
  for (std::uint64_t seed = 100; seed < 105; ++seed) {
    ProgramRunner fresh(Json(), 2, context);
    fresh.NoiseInput(1);
    fresh.SampleAndRun(seed);
    used.SampleAndRun(seed);
    ASSERT_EQ(used.Row(1), fresh.Row(1)) << "seed " << seed;
    ASSERT_EQ(used.program().Describe(), fresh.program().Describe());
  }
}

TEST_P(FamiliesTest, SymbolsStayBelowTheAlphabet) {
  for (const int alphabet : {2, 3, 5, 16, 300, 1000}) {
    for (const int length : {16, 40}) {
      const FamilyContext context{.alphabet = alphabet, .length = length};
      if (const auto family = MakeFamily(Json(), context); !family.ok()) {
        // A family may want a larger alphabet, if it says so.
        EXPECT_NE(std::string(family.status().message()).find("alphabet"), std::string::npos) << family.status();
        EXPECT_LT(alphabet, 16);
        continue;
      }
      ProgramRunner runner(Json(), 2, context);
      runner.NoiseInput(7);
      for (std::uint64_t seed = 0; seed < 6; ++seed) {
        runner.SampleAndRun(seed);
        for (int r = 0; r < 2; ++r) {
          for (const Symbol symbol : runner.Row(r)) ASSERT_LT(symbol, alphabet);
        }
      }
    }
  }
}

TEST_P(FamiliesTest, ReadsItsInputIfItSaysSo) {
  const FamilyContext context{.alphabet = 256, .length = 96};
  ProgramRunner a(Json(), 2, context);
  ProgramRunner b(Json(), 2, context);
  a.NoiseInput(1);
  b.NoiseInput(2);
  int differ = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    a.SampleAndRun(seed);
    b.SampleAndRun(seed);
    differ += a.Row(0) != b.Row(0) ? 1 : 0;
  }
  if (a.family().reads_input()) {
    EXPECT_GT(differ, 0);
  } else if (a.program().prompt_length() == 0) {
    EXPECT_EQ(differ, 0);
  }
}

std::vector<const FamilyEntry*> Entries() {
  std::vector<const FamilyEntry*> entries;
  for (const FamilyEntry& entry : AllFamilies()) entries.push_back(&entry);
  return entries;
}

INSTANTIATE_TEST_SUITE_P(All, FamiliesTest, testing::ValuesIn(Entries()),
                         [](const auto& test) { return std::string(test.param->name); });

}  // namespace
}  // namespace iterand
