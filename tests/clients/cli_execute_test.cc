// The program `iterand`: execute.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "nlohmann/json.hpp"
#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Out(const std::string& arguments) {
  const CommandResult result = RunIterand("execute " + arguments);
  EXPECT_EQ(result.exit_status, 0) << arguments << ": " << result.err;
  EXPECT_EQ(result.err, "") << arguments;
  return result.out;
}

void ExpectRefused(const std::string& arguments, const std::string& part) {
  const CommandResult result = RunIterand("execute " + arguments);
  EXPECT_EQ(result.exit_status, 2) << arguments;
  EXPECT_EQ(result.out, "") << arguments;
  EXPECT_THAT(result.err, StartsWith("iterand: "));
  EXPECT_THAT(result.err, HasSubstr(part));
}

TEST(CliExecute, Formats) {
  EXPECT_EQ(Out("'++++++++[>++++++++<-]>+.+.'"), "# program 0: 2 symbols written in 110 steps, ended\nAB\n");
  EXPECT_EQ(Out("--format raw '+.' '++.'"), std::string("\1\2"));
  const std::string lines = Out("--format jsonl --max-steps 100 --max-output 3 '+[.+]' '+[]'");
  const std::size_t end = lines.find('\n') + 1;
  EXPECT_EQ(json::parse(lines.substr(0, end)),
            json({{"program", 0}, {"steps", 9}, {"halt", "output_limit"}, {"output", {1, 2, 3}}}));
  EXPECT_EQ(json::parse(lines.substr(end)),
            json({{"program", 1}, {"steps", 100}, {"halt", "step_limit"}, {"output", json::array()}}));
}

TEST(CliExecute, ProgramsAndTapesFromFiles) {
  const ScratchFolder scratch;
  WriteWholeFile(scratch.File("program"), "+++\n  .\n");
  WriteWholeFile(scratch.File("list"), "+.\n\n++.\n");
  WriteWholeFile(scratch.File("tape"), std::string("a\0b", 3));
  EXPECT_EQ(Out("--format raw --file " + scratch.File("program")), "\3");
  EXPECT_EQ(Out("--format raw '.' --list " + scratch.File("list")), std::string("\0\1\2", 3));
  EXPECT_EQ(Out("--format raw ',.,.,.,.' --input-file " + scratch.File("tape")), std::string("a\0ba", 4));
  EXPECT_EQ(Out("--format raw ',.,.' --input xyz"), "xy");
  const std::string random = Out("--format raw ',.,.,.,.,.,.' ',.,.,.,.,.,.' --input-seed 7");
  EXPECT_EQ(random.size(), 12U);
  EXPECT_NE(random.substr(0, 6), random.substr(6));
  EXPECT_EQ(random.substr(6), Out("--format raw ',.,.,.,.,.,.' --input-seed 8"));
}

TEST(CliExecute, AServerDoesTheSame) {
  const RunningServer server;
  for (const std::string arguments :
       {"',[.,]>+[>+<.]' --input noise --cells 7 --symbols 100 --repeat --max-output 20000", "'+[]' '.' --input-seed 1",
        "-- '-.' '<.'"}) {
    EXPECT_EQ(Out("--format jsonl --server " + server.address() + " " + arguments), Out("--format jsonl " + arguments));
  }
  ExpectRefused("--server " + server.address() + " '+]'", "programs[0]: program: position 1: ']' closes no loop");
}

// The library that reads the command line takes words in brackets for lists.
TEST(CliExecute, ProgramsInBracketsAreTakenAsTheyStand) {
  EXPECT_EQ(Out("--format raw '[+.]'"), "");  // the loop is never entered
  EXPECT_EQ(Out("'[+.,>.]' '[]'"),
            "# program 0: 0 symbols written in 1 steps, ended\n\n# program 1: 0 symbols written in 1 steps, ended\n\n");
  EXPECT_EQ(Out("--format raw ',.,.,.,.,.' --input '[a]'"), "[a][a");
  EXPECT_EQ(Out("--format raw ',.,.,.,.,.' --input '[a] '"), "[a] [");
  ExpectRefused("'[x]'", "position 1: 'x' is no instruction");
}

TEST(CliExecute, SaysWhatIsWrong) {
  ExpectRefused("", "no program is given");
  ExpectRefused("'+' '+x'", "programs[1]: program: position 1: 'x' is no instruction");
  ExpectRefused("'+' --max-steps 0", "--max-steps");
  ExpectRefused("'+' --symbols 1", "--symbols");
  ExpectRefused("'+' --input a --input-seed 1", "--input");
  ExpectRefused("--file /nowhere/at/all", "/nowhere/at/all: cannot be read");
  ExpectRefused("--file /dev/null", "/dev/null: cannot be read (it is empty)");
  ExpectRefused("--file /dev/zero", "/dev/zero: is too large, may have at most 16777216 bytes");
  ExpectRefused("'+' --input-file /dev/zero", "/dev/zero: is too large, may have at most 65536 bytes");
}

}  // namespace
}  // namespace iterand::testing
