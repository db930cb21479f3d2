// The program `iterand` and secrets: tokens, certificates, and the commands of docs/server.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/clients/command_line.h"
#include "tests/clients/free_port.h"

namespace iterand::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Errors are one line on standard error and nothing else.
void ExpectError(const CommandResult& result, int exit_status, const std::string& part) {
  EXPECT_EQ(result.exit_status, exit_status) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("iterand: "));
  EXPECT_THAT(result.err, HasSubstr(part));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(CliAccess, AsksForItsSecret) {
  const ScratchFolder scratch;
  WriteWholeFile(scratch.File("token"), "correct horse\n");
  WriteWholeFile(scratch.File("wrong"), "battery staple\n");
  for (const char* secret : {"token", "wrong"}) fs::permissions(scratch.File(secret), fs::perms(0600));
  const RunningServer server({"--token-file", scratch.File("token")});
  const std::string served = "sample --recipe uniform --count 1 --format raw --server " + server.address();
  EXPECT_EQ(RunIterand(served + " --token-file " + scratch.File("token")).out.size(), 512u);
  ExpectError(RunIterand(served + " --token-file " + scratch.File("wrong")), 1, "authori");
  ExpectError(RunIterand(served), 1, "authori");
  ExpectError(RunIterand(served), 1, "server " + server.address());
  ExpectError(RunIterand(served), 1, "--token-file");
  WriteWholeFile(scratch.File("blank"), "\n");
  fs::permissions(scratch.File("blank"), fs::perms(0600));
  ExpectError(RunIterand(served + " --token-file " + scratch.File("blank")), 2, "holds no token");
  WriteWholeFile(scratch.File("wrong"), "battery\tstaple\n");
  ExpectError(RunIterand(served + " --token-file " + scratch.File("wrong")), 2,
              "line 1: a token must be printable ASCII");
}

TEST(CliAccess, WarnsOfSecretsThatEverybodyMayRead) {
  const ScratchFolder scratch;
  WriteWholeFile(scratch.File("token"), "# of a server and its clients\nnew\nold\n");
  fs::permissions(scratch.File("token"), fs::perms(0644));
  const RunningServer server({"--token-file", scratch.File("token")});
  const std::string command = "presets --server " + server.address() + " --token-file " + scratch.File("token");
  CommandResult result = RunIterand(command);
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.err, HasSubstr("iterand: warning: every user of this machine may read the secret in "));
  EXPECT_THAT(result.err, HasSubstr("(mode 0644)"));
  fs::permissions(scratch.File("token"), fs::perms(0640));
  result = RunIterand(command);
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_EQ(result.err, "");
  // The server's own warning.
  fs::permissions(scratch.File("token"), fs::perms(0604));
  result = RunShell("timeout -s TERM 2 $ITERAND serve --listen 127.0.0.1:0 --token-file " + scratch.File("token"));
  EXPECT_THAT(result.err, HasSubstr("[warning] every user of this machine may read the secret in "));
}

TEST(CliAccess, RefusesAPublicPortWithoutProtection) {
  const CommandResult result = RunIterand("serve --listen 0.0.0.0:0");
  ExpectError(result, 2, "--insecure-public");
  EXPECT_THAT(result.err, HasSubstr("--tls-cert and --tls-key"));
  EXPECT_THAT(result.err, HasSubstr("--token-file"));
}

// The commands of the code blocks between a heading of docs/server.md and the next one.
std::vector<std::string> CommandsBelow(const std::string& heading) {
  std::vector<std::string> commands;
  bool below = false;
  bool in_block = false;
  for (const absl::string_view line : absl::StrSplit(ReadWholeFile(ITERAND_SOURCE "/docs/server.md"), '\n')) {
    if (absl::StartsWith(line, "#") && !in_block) below = line == heading;
    if (!below) continue;
    if (absl::StartsWith(line, "```")) {
      in_block = !in_block;
    } else if (in_block && !line.empty()) {
      commands.emplace_back(line);
    }
  }
  return commands;
}

// Runs them as they are printed, in an empty folder, except the port, which may be taken here. Each `iterand serve`
// runs until the next one.
void RunAsPrinted(const std::vector<std::string>& commands) {
  const ScratchFolder scratch;
  const std::string begin = absl::StrCat("cd ", scratch.path().string(), "; iterand() { $ITERAND \"$@\"; }\n");
  const std::string port = absl::StrCat(FreePort());
  std::string server_id;
  const auto stop_server = [&] {
    if (!server_id.empty()) {
      // A server removes its address file when it stops.
      RunShell(begin + "kill -TERM " + server_id +
               "; for i in $(seq 100); do test -f address || exit 0; sleep 0.1; done");
    }
    server_id.clear();
  };
  int samples = 0;
  for (const std::string& printed : commands) {
    std::string command = absl::StrReplaceAll(printed, {{":50051", absl::StrCat(":", port)}});
    if (absl::StartsWith(command, "iterand serve")) {
      stop_server();
      command = absl::StrReplaceAll(command, {{"iterand serve", "exec $ITERAND serve --address-file address"}});
      const CommandResult started = RunShell(
          absl::StrCat(begin, "rm -f address\n(", command, ") > /dev/null 2> log & echo $!\n",
                       "for i in $(seq 300); do test -f address && exit 0; sleep 0.1; done\n", "cat log >&2; exit 1"));
      ASSERT_EQ(started.exit_status, 0) << printed << "\n" << started.err;
      server_id = started.out.substr(0, started.out.find('\n'));
    } else {
      const CommandResult result = RunShell(begin + command);
      EXPECT_EQ(result.exit_status, 0) << printed << "\n" << result.err;
      if (absl::StartsWith(command, "iterand sample")) {
        ++samples;
        EXPECT_THAT(result.out, HasSubstr("# 0: ")) << printed;
        EXPECT_EQ(result.err, "") << printed;
      }
    }
  }
  stop_server();
  EXPECT_GT(samples, 0);
}

TEST(CliAccess, TheDocumentedCommandsForTls) { RunAsPrinted(CommandsBelow("## TLS and tokens")); }

}  // namespace
}  // namespace iterand::testing
