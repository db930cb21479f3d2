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

TEST(CliExecute, WhatIsEmptyIsAnEmptyProgramOrTape) {
  const ScratchFolder scratch;
  const std::string nothing = "# program 0: 0 symbols written in 0 steps, ended\n\n";
  WriteWholeFile(scratch.File("empty"), "");
  WriteWholeFile(scratch.File("blank"), "\n");
  WriteWholeFile(scratch.File("list"), "\n+.\n \n\r\n++.");  // the last line has no newline
  EXPECT_EQ(Out("''"), nothing);
  for (const std::string empty : {"/dev/null", "/dev/stdin < /dev/null"}) {
    EXPECT_EQ(Out("--file " + empty), nothing);
    EXPECT_EQ(Out("--format raw ',.' --input-file " + empty), std::string(1, '\0'));
  }
  EXPECT_EQ(Out("--file " + scratch.File("empty")), nothing);
  EXPECT_EQ(Out("--format raw ',.' --input ''"), std::string(1, '\0'));
  EXPECT_EQ(Out("--list " + scratch.File("blank")), nothing);
  const std::string listed = Out("--format jsonl --list " + scratch.File("list"));
  EXPECT_EQ(listed, R"({"program":0,"steps":0,"halt":"ended","output":[]})"
                    "\n"
                    R"({"program":1,"steps":2,"halt":"ended","output":[1]})"
                    "\n"
                    R"({"program":2,"steps":0,"halt":"ended","output":[]})"
                    "\n"
                    R"({"program":3,"steps":0,"halt":"ended","output":[]})"
                    "\n"
                    R"({"program":4,"steps":3,"halt":"ended","output":[2]})"
                    "\n");
  const RunningServer server;
  EXPECT_EQ(Out("--format jsonl --server " + server.address() + " --list " + scratch.File("list")), listed);
  EXPECT_EQ(Out("--server " + server.address() + " --file /dev/null"), nothing);
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
  ExpectRefused("'[x]'", "position 1: 'x' is not an instruction");
}

TEST(CliExecute, SaysWhatIsWrong) {
  ExpectRefused("", "no program is given");
  ExpectRefused("'+' '+x'", "programs[1]: program: position 1: 'x' is not an instruction");
  ExpectRefused("'+' --max-steps 0", "--max-steps");
  ExpectRefused("'+' --symbols 1", "--symbols");
  ExpectRefused("'+' --input a --input-seed 1", "--input");
  ExpectRefused("--file /nowhere/at/all", "/nowhere/at/all: cannot be read");
  ExpectRefused("--file ''", "'': cannot be read (No such file or directory)");
  ExpectRefused("'+.' --input-file ''", "'': cannot be read (No such file or directory)");
  ExpectRefused("--list ''", "'': cannot be read (No such file or directory)");
  ExpectRefused("--file /", "/: cannot be read (Is a directory)");
  ExpectRefused("--list /dev/null", "--list /dev/null has no lines");
  ExpectRefused("--file /dev/zero", "/dev/zero: is too large, may have at most 16777216 bytes");
  ExpectRefused("'+' --input-file /dev/zero", "/dev/zero: is too large, may have at most 65536 bytes");
}

}  // namespace
}  // namespace iterand::testing
