#include "randnet/machines/tape_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "randnet/machines/stepped_program.h"
#include "tests/randnet/family_checks.h"
#include "tests/support/tape.h"

namespace iterand {
namespace {

using testing::HasSubstr;

// A random well-formed text.
std::string RandomText(Rng& rng, int length) {
  std::string text;
  int open = 0;
  for (int i = 0; i < length; ++i) {
    const char c = "+-><[].,"[rng.Below(8)];
    if (c == ']' && open == 0) continue;
    open += c == '[' ? 1 : c == ']' ? -1 : 0;
    text.push_back(c);
  }
  return text + std::string(static_cast<std::size_t>(open), ']');
}

void ExpectSame(const std::string& text, const std::vector<Symbol>& input, const TapeLimits& limits,
                std::size_t capacity) {
  const TapeOutcome expected = Interpret(text, input, limits, capacity);
  const auto program = TapeProgram::Parse(text);
  ASSERT_TRUE(program.ok()) << program.status();
  std::vector<Symbol> output(capacity);
  const auto result = program->Run(input, limits, output);
  ASSERT_TRUE(result.ok()) << result.status();
  output.resize(result->written);
  ASSERT_EQ(output, expected.output) << text;
  ASSERT_EQ(result->steps, expected.steps) << text;
  ASSERT_EQ(result->halt, expected.halt) << text;
}

TEST(TapeProgramTest, EqualsThePlainInterpreter) {
  Rng rng(1, 2);
  int halts[3] = {};
  for (int i = 0; i < 4000; ++i) {
    const std::string text = RandomText(rng, 1 + static_cast<int>(rng.Below(40)));
    std::vector<Symbol> input(rng.Below(20));
    for (Symbol& symbol : input) symbol = static_cast<Symbol>(rng.Below(400));
    const TapeLimits limits{.max_steps = rng.Below(600),
                            .cells = 1 + static_cast<int>(rng.Below(6)),
                            .symbols = 2 + static_cast<int>(rng.Below(255)),
                            .repeat = rng.Below(2) == 1};
    const std::size_t capacity = 1 + rng.Below(40);
    ExpectSame(text, input, limits, capacity);
    ++halts[static_cast<int>(Interpret(text, input, limits, capacity).halt)];
  }
  for (const int count : halts) EXPECT_GT(count, 100);
}

TEST(TapeProgramTest, HelloWorld) {
  const auto program = TapeProgram::Parse(
      "++++++++[>++++[>++>+++>+++>+<<<<-]>+>+>->>+[<]<-]>>.>---.+++++++..+++.>>.<-.<.+++.------.--------.>>+.>++.");
  ASSERT_TRUE(program.ok());
  std::vector<Symbol> output(100);
  const auto result = program->Run({}, {}, output);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(std::string(output.begin(), output.begin() + static_cast<std::ptrdiff_t>(result->written)),
            "Hello World!\n");
  EXPECT_EQ(result->halt, TapeHalt::kEnded);
}

TEST(TapeProgramTest, Extremes) {
  ExpectSame("", {}, {}, 1);
  ExpectSame("", {}, {.repeat = true}, 1);
  ExpectSame(".", {}, {.max_steps = 0}, 1);
  ExpectSame("+[]", {}, {.max_steps = 1000}, 1);
  ExpectSame(",.", {}, {.repeat = true}, 9);
  ExpectSame(std::string(65536, '+'), {}, {.max_steps = 100000}, 1);
  ExpectSame(absl::StrCat(std::string(65000, '<'), "+."), {}, {.max_steps = 100000, .cells = 65536}, 2);
  std::string deep = std::string(32768, '[') + std::string(32768, ']');
  ExpectSame(deep, {}, {}, 1);
  deep[0] = '+';
  EXPECT_FALSE(TapeProgram::Parse(deep).ok());
  std::vector<Symbol> none;
  EXPECT_EQ(TapeProgram::Parse(".")->Run({}, {}, none)->halt, TapeHalt::kOutputLimit);
}

TEST(TapeProgramTest, ErrorsNameThePosition) {
  const auto message = [](std::string_view text) { return std::string(TapeProgram::Parse(text).status().message()); };
  EXPECT_THAT(message("++x"), HasSubstr("position 2: 'x' is not an instruction"));
  EXPECT_THAT(message(std::string_view("+\0", 2)), HasSubstr("position 1: '\\x00' is not an instruction"));
  EXPECT_THAT(message("+ \n]"), HasSubstr("position 3: ']' closes no loop"));
  EXPECT_THAT(message("[[-]"), HasSubstr("position 0: '[' is never closed"));
  EXPECT_THAT(message(std::string(70000, '+')), HasSubstr("70000 characters"));
  EXPECT_EQ(TapeProgram::Parse(" + [ - ]\n.")->text(), "+[-].");
  const auto program = *TapeProgram::Parse(".");
  std::vector<Symbol> output(1);
  EXPECT_THAT(program.Run({}, {.cells = 0}, output).status().ToString(), HasSubstr("cells: is 0"));
  EXPECT_THAT(program.Run({}, {.symbols = 257}, output).status().ToString(), HasSubstr("symbols: is 257"));
}

std::string ProgramOf(const ProgramRunner& runner) {
  const std::string text = const_cast<ProgramRunner&>(runner).program().Describe();
  return text.substr(text.find("program=") + 8);
}

TEST(TapeMachineTest, RowsAreWhatTheProgramWrites) {
  for (const bool repeat : {true, false}) {
    ProgramRunner runner(absl::StrCat(R"({"tape_machine": {"repeat": )", repeat ? "true" : "false", "}}"), 9,
                         {.alphabet = 200, .length = 100});
    int silent = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      runner.NoiseInput(seed);
      runner.SampleAndRun(seed);
      std::uint64_t steps = 0;
      for (int r = 0; r < 9; ++r) {
        const TapeOutcome outcome = Interpret(ProgramOf(runner), runner.InputRow(r),
                                              {.max_steps = 1600, .cells = 64, .symbols = 200, .repeat = repeat}, 100);
        std::vector<Symbol> expected(100);
        silent += outcome.output.empty() ? 1 : 0;
        for (std::size_t t = 0; t < 100 && !outcome.output.empty(); ++t) {
          expected[t] = outcome.output[t % outcome.output.size()];
        }
        ASSERT_EQ(runner.Row(r), expected) << ProgramOf(runner);
        steps += outcome.steps;
      }
      EXPECT_EQ(dynamic_cast<SteppedProgram&>(runner.program()).steps(), steps);
    }
    EXPECT_GT(silent, 0);
  }
}

TEST(TapeMachineTest, RandomInputTapes) {
  ProgramRunner runner(R"({"tape_machine": {"input": "RANDOM", "programs": [",."]}})", 8);
  EXPECT_FALSE(runner.family().reads_input());
  runner.SampleAndRun(1);
  EXPECT_NE(runner.Row(0), runner.Row(7));
  const std::vector<Symbol> row = runner.Row(7);
  EXPECT_GT(std::set<Symbol>(row.begin(), row.end()).size(), 200U);
}

TEST(TapeMachineTest, MutantsAndCrossings) {
  const std::string plain = "+++[>++.<-]>>,.";
  const auto json = [&](const std::string& rest) {
    return absl::StrCat(R"({"tape_machine": {"programs": [")", plain, R"("])", rest, "}}");
  };
  ProgramRunner same(json(""), 1);
  same.SampleAndRun(1);
  EXPECT_EQ(ProgramOf(same), plain);

  ProgramRunner mutant(json(R"(, "mutations": {"fixed": 1})"), 1);
  std::set<std::string> texts;
  std::set<std::size_t> sizes;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    mutant.SampleAndRun(seed);
    texts.insert(ProgramOf(mutant));
    sizes.insert(ProgramOf(mutant).size());
    EXPECT_TRUE(TapeProgram::Parse(ProgramOf(mutant)).ok());
  }
  EXPECT_GT(texts.size(), 50U);
  EXPECT_TRUE(sizes.contains(plain.size() - 1));
  EXPECT_TRUE(sizes.contains(plain.size() + 1));

  ProgramRunner cross(R"({"tape_machine": {"programs": ["++++++++.", "--------."], "cross_probability": 1}})", 1);
  int crossed = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    cross.SampleAndRun(seed);
    const std::string text = ProgramOf(cross);
    crossed += text.find("+-") != std::string::npos || text.find("-+") != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(crossed, 20);
}

TEST(TapeMachineTest, RefusesBadProgramsAndSharesOfNone) {
  EXPECT_THAT(Refusal(R"({"tape_machine": {"programs": ["+", "+]"]}})"),
              HasSubstr("families[0].tape_machine.programs[1]: program: position 1: ']' closes no loop"));
  EXPECT_THAT(Refusal(absl::StrCat(R"({"tape_machine": {"programs": [")", std::string(4097, '+'), R"("]}})")),
              HasSubstr("families[0].tape_machine.programs[0]: has 4097 instructions, may have at most 4096"));
  EXPECT_THAT(Refusal(R"({"tape_machine": {"archive_share": 0.5}})"),
              HasSubstr("families[0].tape_machine.archive_share: is 0.5, must be 0"));
}

}  // namespace
}  // namespace iterand
