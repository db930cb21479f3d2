// The C++ libraries as other projects use them: installed and found by find_package, and as a subfolder. The project is
// tests/consumer; the example program is clients/cpp/examples.
//
// As a subfolder the project would build every library again. So that test configures it, looks at its targets and
// compiles one file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

// SHA-256 of the first 64 sequences of a preset with seed 0.
std::string Golden(const std::string& preset) {
  std::ifstream goldens(ITERAND_TEST_DATA "/goldens/goldens.txt");
  for (std::string line; std::getline(goldens, line);) {
    std::istringstream words(line);
    std::string name, seed, hash;
    words >> name >> seed >> hash;
    if (name == preset && seed == "0") return hash;
  }
  ADD_FAILURE() << "there is no golden of " << preset;
  return "";
}

class Consumer : public ::testing::Test {
 protected:
  // Configures the project in `source`, with CMake's default generator.
  void Configure(const std::string& source, const std::string& arguments) {
    const CommandResult result =
        RunShell(ITERAND_CMAKE " " ITERAND_CONFIGURE " -S " + source + " -B " + build() + " " + arguments);
    ASSERT_EQ(result.exit_status, 0) << result.out << result.err;
  }

  void Build(const std::string& arguments = "") {
    const CommandResult result = RunShell(ITERAND_CMAKE " --build " + build() + " " + arguments);
    ASSERT_EQ(result.exit_status, 0) << result.out << result.err;
  }

  // Builds the project in `source` against the installed libraries.
  void BuildInstalled(const std::string& source) {
    const std::string prefix = scratch_.File("prefix");
    const CommandResult install =
        RunShell(ITERAND_CMAKE " --install " ITERAND_BUILD " --component development --prefix " + prefix);
    ASSERT_EQ(install.exit_status, 0) << install.out << install.err;
    Configure(source, "-DCMAKE_PREFIX_PATH=" + prefix);
    Build();
  }

  std::string build() const { return scratch_.File("build"); }

  const ScratchFolder scratch_;
};

TEST_F(Consumer, OfInstalledLibrariesReadsTheGoldenStream) {
  ASSERT_NO_FATAL_FAILURE(BuildInstalled(ITERAND_TEST_DATA "/consumer"));
  for (const std::string preset : {"markov", "lstm"}) {
    const CommandResult local = RunShell(build() + "/local " + preset + " 0");
    EXPECT_EQ(local.exit_status, 0) << local.err;
    EXPECT_EQ(Sha256Hex(local.out), Golden(preset));
  }
  const RunningServer server;
  const CommandResult remote = RunShell(build() + "/remote " + server.address() + " markov 0");
  EXPECT_EQ(remote.exit_status, 0) << remote.err;
  EXPECT_EQ(Sha256Hex(remote.out), Golden("markov"));
}

TEST_F(Consumer, ASubfolderBringsTheLibrariesAlone) {
  ASSERT_NO_FATAL_FAILURE(
      Configure(ITERAND_TEST_DATA "/consumer", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DITERAND_FOLDER=" ITERAND_SOURCE));
  const CommandResult help = RunShell(ITERAND_CMAKE " --build " + build() + " --target help");
  std::set<std::string> targets;
  std::istringstream lines(help.out);
  for (std::string line; std::getline(lines, line);) {
    const bool file = line.find('.', 4) != std::string::npos;
    if (line.starts_with("... ") && !file) targets.insert(line.substr(4, line.find(' ', 4) - 4));
  }
  for (const char* target : {"all", "clean", "depend", "edit_cache", "rebuild_cache"})
    targets.erase(target);  // CMake's
  EXPECT_THAT(targets, UnorderedElementsAre("local", "remote", "iterand_client", "iterand_common", "iterand_error_info",
                                            "iterand_iterate", "iterand_randnet", "iterand_recipe_proto", "iterand_rpc",
                                            "iterand_service_messages", "iterand_service_proto"));
  const CommandResult tests = RunShell("ctest --test-dir " + build() + " -N");
  EXPECT_THAT(tests.out, HasSubstr("Total Tests: 0"));

  // The consumer's files see the public headers and none of our compile options. The generated ones are not needed.
  ASSERT_NO_FATAL_FAILURE(Build("--target local.o --target remote.o"));
  const CommandResult command = RunShell("grep '\"command\".*consumer/local.cc' " + build() + "/compile_commands.json");
  EXPECT_THAT(command.out, AllOf(HasSubstr("iterate/include"), Not(HasSubstr("-I" ITERAND_SOURCE " ")),
                                 Not(HasSubstr("-Werror")), Not(HasSubstr("-march")), Not(HasSubstr("-Wall"))));
}

TEST_F(Consumer, ExamplesRun) {
  ASSERT_NO_FATAL_FAILURE(BuildInstalled(ITERAND_SOURCE "/clients/cpp/examples"));
  const RunningServer server;
  const auto read = [&](const std::string& state, int batches) {
    const CommandResult result = RunShell(build() + "/read_stream " + server.address() + " " + scratch_.File(state) +
                                          " " + std::to_string(batches));
    EXPECT_EQ(result.exit_status, 0) << result.err;
    return result.out;
  };
  const std::string first = read("state", 2);
  EXPECT_THAT(first, StartsWith("sequences 0 to 31: "));
  const std::string second = read("state", 3);
  EXPECT_THAT(second, StartsWith("sequences 64 to 95: "));
  EXPECT_EQ(first + second, read("whole", 5));
  EXPECT_EQ(ReadWholeFile(scratch_.File("state")), ReadWholeFile(scratch_.File("whole")));

  // A state of another stream is refused.
  WriteWholeFile(scratch_.File("other"), absl::StrCat("160 ", std::string(64, '0'), "\n"));
  const CommandResult other = RunShell(build() + "/read_stream " + server.address() + " " + scratch_.File("other"));
  EXPECT_EQ(other.exit_status, 1);
  EXPECT_THAT(other.err, HasSubstr("expected_fingerprint"));

  const CommandResult every = RunShell(build() + "/every_call " + server.address());
  EXPECT_EQ(every.exit_status, 0) << every.err;
  EXPECT_THAT(every.out, AllOf(HasSubstr("\nserver and process agree\n"), HasSubstr("\nUNKNOWN_PRESET mark0v\n"),
                               EndsWith("\ncancelled\n")));
}

}  // namespace
}  // namespace iterand::testing
