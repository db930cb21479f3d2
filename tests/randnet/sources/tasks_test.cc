#include "randnet/sources/tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/randnet/family_checks.h"

namespace iterand {
namespace {

using testing::HasSubstr;

using Symbols = std::vector<Symbol>;

Symbols FirstOccurrences(const Symbols& input) {
  Symbols output;
  for (const Symbol symbol : input) {
    if (std::find(output.begin(), output.end(), symbol) == output.end()) output.push_back(symbol);
  }
  return output;
}

// The answer of a task; `second` is the second input, or the deleted symbol.
Symbols Answer(const std::string& kind, const Symbols& input, const Symbols& second) {
  Symbols output = input;
  if (kind == "REVERSE") std::reverse(output.begin(), output.end());
  if (kind == "SORT") std::sort(output.begin(), output.end());
  if (kind == "SET") return FirstOccurrences(input);
  if (kind == "UNION") {
    output.insert(output.end(), second.begin(), second.end());
    return FirstOccurrences(output);
  }
  if (kind == "DELETE") {
    EXPECT_EQ(second.size(), 1U);
    EXPECT_NE(std::find(input.begin(), input.end(), second[0]), input.end());
    output.erase(std::remove(output.begin(), output.end(), second[0]), output.end());
  }
  if (kind == "STACK") {
    output.clear();
    for (const Symbol symbol : input) {
      if (symbol != 0) {
        output.insert(output.begin(), symbol);
      } else if (!output.empty()) {
        output.erase(output.begin());
      }
    }
  }
  return output;
}

TEST(TasksTest, EveryInstanceIsAnsweredRightly) {
  constexpr int kSymbols = 9;
  for (const std::string source : {"RANDOM", "ROW"}) {
    for (const std::string kind : {"SET", "REVERSE", "IDENTITY", "UNION", "SORT", "DELETE", "STACK"}) {
      ProgramRunner runner(absl::StrCat(R"({"tasks": {"kinds": [")", kind, R"("], "source": ")", source,
                                        R"(", "symbols": {"fixed": )", kSymbols, R"(}, "items": {"fixed": 12}}})"),
                           3, {.alphabet = 100, .length = 2000});
      EXPECT_EQ(runner.family().reads_input(), source == "ROW");
      runner.NoiseInput(1);
      runner.SampleAndRun(1);
      for (int r = 0; r < 3; ++r) {
        int instances = 0;
        std::size_t longest = 0;
        Symbols inputs;
        Symbols part;
        std::vector<Symbols> parts;
        for (const Symbol symbol : runner.Row(r)) {
          ASSERT_LE(symbol, kSymbols + 2);
          if (symbol < kSymbols) {
            part.push_back(symbol);
            continue;
          }
          parts.push_back(part);
          part.clear();
          if (symbol == kSymbols) {
            ASSERT_EQ(parts.size(), kind == "UNION" || kind == "DELETE" ? 2U : 1U);
            inputs.insert(inputs.end(), parts[0].begin(), parts[0].end());
            longest = std::max(longest, parts[0].size());
            ASSERT_FALSE(parts[0].empty());
            if (kind == "UNION") inputs.insert(inputs.end(), parts[1].begin(), parts[1].end());
          } else if (symbol == kSymbols + 1) {
            const Symbols answer = parts.back();
            ASSERT_EQ(answer, Answer(kind, parts[0], parts.size() > 2 ? parts[1] : Symbols{})) << kind;
            parts.clear();
            ++instances;
          }
        }
        EXPECT_GT(instances, 50);
        EXPECT_EQ(longest, 12U);
        if (source == "ROW") {
          for (std::size_t i = 0; i < inputs.size(); ++i) {
            ASSERT_EQ(inputs[i], runner.InputRow(r)[i % 2000] % kSymbols);
          }
        }
      }
    }
  }
}

// Inputs are drawn as the header says. The answers are checked above.
TEST(TasksTest, InputsAreDrawnAsTheHeaderSays) {
  for (const std::string kind : {"SORT", "UNION", "DELETE", "STACK"}) {
    for (const std::uint32_t k : {2U, 9U, 65533U}) {
      SCOPED_TRACE(absl::StrCat(kind, " of ", k));
      ProgramRunner runner(absl::StrCat(R"({"tasks": {"kinds": [")", kind, R"("], "symbols": {"fixed": )", k,
                                        R"(}, "items": {"fixed": 20}}})"),
                           2, {.alphabet = 65536, .length = 3000});
      runner.SampleAndRun(5);
      for (int r = 0; r < 2; ++r) {
        Rng rng = RowRng({.seed = 5}).ForRow(r);
        const auto draw = [&] {
          Symbols input(1 + rng.Below(20));
          for (Symbol& symbol : input) {
            const std::uint64_t word = rng.Next();
            const std::uint64_t high = word >> 16;
            const std::uint64_t low = word & 0xFFFF;
            symbol = static_cast<Symbol>(kind != "STACK"    ? word * k >> 32
                                         : 3 * high < 65536 ? 0
                                                            : 1 + (low * (k - 1) >> 16));
          }
          return input;
        };
        Symbols expected;
        while (expected.size() < 3000) {
          const Symbols input = draw();
          Symbols second;
          if (kind == "UNION") second = draw();
          if (kind == "DELETE") second = {input[rng.Below(static_cast<std::uint32_t>(input.size()))]};
          expected.insert(expected.end(), input.begin(), input.end());
          if (!second.empty()) expected.push_back(static_cast<Symbol>(k + 2));
          expected.insert(expected.end(), second.begin(), second.end());
          expected.push_back(static_cast<Symbol>(k));
          const Symbols answer = Answer(kind, input, second);
          expected.insert(expected.end(), answer.begin(), answer.end());
          expected.push_back(static_cast<Symbol>(k + 1));
        }
        expected.resize(3000);
        ASSERT_EQ(runner.Row(r), expected) << "row " << r;
      }
    }
  }
}

// The same tasks, except the mark at the end of an output; the targets are the same too.
TEST(TasksTest, OneMarkEndsInputsAndOutputs) {
  constexpr Symbol kSymbols = 9;
  for (const std::string kind : {"SET", "REVERSE", "DELETE", "STACK"}) {
    const std::string knobs =
        absl::StrCat(R"("kinds": [")", kind, R"("], "symbols": {"fixed": )", kSymbols, R"(}, "items": {"fixed": 5})");
    const FamilyContext context{.alphabet = 100, .length = 500};
    ProgramRunner two(absl::StrCat(R"({"tasks": {)", knobs, "}}"), 1, context);
    ProgramRunner one(absl::StrCat(R"({"tasks": {)", knobs, R"(, "one_mark": true}})"), 1, context);
    two.SampleAndRun(1);
    one.SampleAndRun(1);
    Symbols expected = two.Row(0);
    EXPECT_GT(std::count(expected.begin(), expected.end(), kSymbols + 1), 20);
    std::replace(expected.begin(), expected.end(), Symbol{kSymbols + 1}, kSymbols);
    EXPECT_EQ(one.Row(0), expected);
    std::vector<std::uint8_t> mask_of_two(500);
    std::vector<std::uint8_t> mask_of_one(500);
    two.program().MarkTargets(0, two.Row(0), mask_of_two);
    one.program().MarkTargets(0, one.Row(0), mask_of_one);
    EXPECT_EQ(mask_of_one, mask_of_two);
  }
}

TEST(TasksTest, SmallAlphabets) {
  EXPECT_THAT(Refusal(R"({"tasks": {}})", {.alphabet = 4, .length = 64}),
              HasSubstr("families[0].tasks: needs an alphabet_size"));
  ProgramRunner runner(R"({"tasks": {}})", 1, {.alphabet = 5, .length = 64});
  runner.SampleAndRun(1);
  EXPECT_THAT(runner.program().Describe(), HasSubstr("symbols=2 "));
}

TEST(TasksTest, RefusesUnknownKindsAndSmallAlphabets) {
  EXPECT_EQ(Refusal(R"({"tasks": {"kinds": ["SET", "KIND_UNSPECIFIED"]}})"),
            "families[0].tasks.kinds[1]: is 0, must be one of set, reverse, identity, union, sort, delete, stack");
  EXPECT_THAT(Refusal(R"({"tasks": {}})", {.alphabet = 4, .length = 64}),
              HasSubstr("families[0].tasks: needs an alphabet_size of at least 5"));
}

}  // namespace
}  // namespace iterand
