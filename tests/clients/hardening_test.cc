// The program as it was built: what limits the abuse of a memory fault is in it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

std::string ReadElf(const std::string& options) {
  const CommandResult result = RunShell("readelf --wide " + options + " $ITERAND");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  return result.out;
}

class Hardening : public ::testing::Test {
 protected:
  void SetUp() override {
#ifndef ITERAND_HARDENED
    GTEST_SKIP() << "a build with sanitizers or without ITERAND_HARDEN";
#endif
  }
};

TEST_F(Hardening, PositionIndependent) {
  EXPECT_THAT(ReadElf("--file-header"), ContainsRegex("Type: +DYN"));
  EXPECT_THAT(ReadElf("--dynamic"), ContainsRegex("FLAGS_1.* PIE"));
}

// Full RELRO: all symbols are bound at the start, and the table of their addresses is then read-only.
TEST_F(Hardening, FullRelro) {
  EXPECT_THAT(ReadElf("--program-headers"), HasSubstr("GNU_RELRO"));
  EXPECT_THAT(ReadElf("--dynamic"), ContainsRegex("FLAGS_1.* NOW"));
}

TEST_F(Hardening, NothingIsBothWritableAndExecutable) {
  const std::string headers = ReadElf("--program-headers");
  EXPECT_THAT(headers, ContainsRegex("GNU_STACK[ 0-9a-fx]+RW "));
  EXPECT_THAT(headers, Not(HasSubstr("RWE")));
}

TEST_F(Hardening, StackProtector) { EXPECT_THAT(ReadElf("--dyn-syms"), HasSubstr("__stack_chk_fail")); }

TEST_F(Hardening, FortifiedCalls) {
#ifndef __OPTIMIZE__
  GTEST_SKIP() << "needs an optimised build";
#endif
  EXPECT_THAT(ReadElf("--dyn-syms"), ContainsRegex("UND __[a-z]+_chk@GLIBC"));
}

TEST_F(Hardening, NoSearchPathForLibraries) { EXPECT_THAT(ReadElf("--dynamic"), Not(ContainsRegex("R(UN)?PATH"))); }

}  // namespace
}  // namespace iterand::testing
