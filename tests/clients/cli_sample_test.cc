// The program `iterand`: sample, describe, presets, serve and what all commands share.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Raw bytes of `iterand sample ARGUMENTS`.
std::string Raw(const std::string& arguments) {
  const CommandResult result = RunIterand("sample --format raw " + arguments);
  EXPECT_EQ(result.exit_status, 0) << arguments << ": " << result.err;
  EXPECT_EQ(result.err, "") << arguments;
  return result.out;
}

// Errors are one line on standard error and nothing else.
void ExpectError(const CommandResult& result, int exit_status, const std::string& part) {
  EXPECT_EQ(result.exit_status, exit_status) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("iterand: "));
  EXPECT_THAT(result.err, HasSubstr(part));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(Cli, HelpOfEveryCommand) {
  EXPECT_THAT(RunIterand("--help").out, AllOf(HasSubstr("serve"), HasSubstr("presets"), HasSubstr("describe"),
                                              HasSubstr("sample"), HasSubstr("dump"), HasSubstr("Exit status")));
  for (const std::string command : {"serve", "presets", "describe", "sample", "inspect", "dump"}) {
    const CommandResult help = RunIterand(command + " --help");
    EXPECT_EQ(help.exit_status, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("--help")) << command;
    EXPECT_EQ(help.err, "") << command;
    EXPECT_EQ(help.out.find("FLOAT"), std::string::npos) << command;
    EXPECT_EQ(help.out.find("RECIPE RECIPE"), std::string::npos) << command;
    for (const std::string& line : Lines(help.out)) EXPECT_LE(line.size(), 130u) << command << ": " << line;
  }
}

TEST(Cli, VersionNamesProgramAndEngine) {
  const CommandResult result = RunIterand("--version");
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.out, ::testing::MatchesRegex("iterand [0-9]+\\.[0-9]+\\.[0-9]+ \\(engine version [0-9]+\\)\n"));
}

TEST(Cli, PresetsAreListed) {
  const CommandResult text = RunIterand("presets");
  EXPECT_EQ(text.exit_status, 0) << text.err;
  const json list = json::parse(RunIterand("presets --json").out);
  std::set<std::string> names;
  for (const json& preset : list["presets"]) {
    names.insert(preset["name"]);
    EXPECT_NE(preset["description"], "") << preset["name"];
    EXPECT_THAT(text.out, HasSubstr(std::string(preset["name"])));
  }
  for (const std::string name : {"up", "up-paper", "up-noit", "lstm", "uniform", "pointwise", "markov", "automaton"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  EXPECT_EQ(list["default"], "up");
}

TEST(Cli, DescribeResolvesARecipe) {
  const json described = json::parse(RunIterand("describe up --json").out);
  EXPECT_EQ(described["recipe"]["length"], 512);
  EXPECT_EQ(described["dtype"], "uint8");
  EXPECT_EQ(std::string(described["fingerprint"]).size(), 64u);
  const json other_seed = json::parse(RunIterand("describe up --seed 1 --json").out);
  EXPECT_NE(other_seed["fingerprint"], described["fingerprint"]);
  EXPECT_THAT(RunIterand("describe up").out, HasSubstr(std::string(described["fingerprint"])));
  EXPECT_EQ(json::parse(RunIterand("describe --recipe up --json").out), described);
}

TEST(Cli, DescribeTellsWhatAFirstBatchCosts) {
  EXPECT_THAT(RunIterand("describe transformer --length 8192").out,
              HasSubstr("are ready: 3.84 TFLOP, without filters\n"));
  EXPECT_THAT(RunIterand("describe uniform").out, HasSubstr("are ready\n"));
}

TEST(Cli, WhatDescribeWritesIsARecipe) {
  const ScratchFolder scratch;
  const json described = json::parse(RunIterand("describe up --json").out);
  WriteWholeFile(scratch.File("copy.json"), described["recipe"].dump());
  const CommandResult again = RunIterand("describe " + scratch.File("copy.json") + " --json");
  ASSERT_EQ(again.exit_status, 0) << again.err;
  EXPECT_EQ(json::parse(again.out)["fingerprint"], described["fingerprint"]);
  const CommandResult recipe = RunIterand("describe up --recipe-json");
  ASSERT_EQ(recipe.exit_status, 0) << recipe.err;
  EXPECT_EQ(json::parse(recipe.out), described["recipe"]);
}

TEST(CliSample, RawIsNothingButTokens) {
  EXPECT_EQ(Raw("--recipe markov --count 5").size(), 5u * 512);
  EXPECT_EQ(Raw("--recipe markov --count 5 --length 64").size(), 5u * 64);
  EXPECT_EQ(Raw("--recipe markov --count 0").size(), 0u);
}

TEST(CliSample, JsonLinesHoldIndexTokensAndProvenance) {
  const std::string arguments = "--recipe up --length 64 --seed 3 --start 7 --count 20 --rank 1 --world-size 2";
  const std::string raw = Raw(arguments);
  const CommandResult result = RunIterand("sample --format jsonl " + arguments);
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const std::vector<std::string> lines = Lines(result.out);
  ASSERT_EQ(lines.size(), 20u);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const json row = json::parse(lines[i]);
    EXPECT_EQ(row["index"], 7 + 2 * i);
    EXPECT_EQ(row["provenance"]["lane"], (7 + 2 * i) % 32);
    EXPECT_TRUE(row["provenance"]["family"].is_string());
    std::string bytes;
    for (const int token : row["tokens"]) bytes += static_cast<char>(token);
    EXPECT_EQ(bytes, raw.substr(i * 64, 64)) << i;
  }
}

TEST(CliSample, WideTokensAreLittleEndian) {
  const ScratchFolder scratch;
  for (const auto& [vocabulary, width] : {std::pair{"1000", 2u}, std::pair{"1000000", 4u}}) {
    const std::string file = scratch.File(std::string("wide") + vocabulary + ".json");
    WriteWholeFile(file,
                   std::string(R"({"families": [{"markov": {}}], "relabel": "RELABEL_SEQUENCE", "vocabSize": ")") +
                       vocabulary + R"("})");
    const std::string raw = Raw("--recipe " + file + " --count 6");
    ASSERT_EQ(raw.size(), 6u * 512 * width);
    const CommandResult lines = RunIterand("sample --format jsonl --count 6 --recipe " + file);
    std::size_t at = 0;
    for (const std::string& line : Lines(lines.out)) {
      const json row = json::parse(line);
      for (const std::uint32_t token : row["tokens"]) {
        std::uint32_t value = 0;
        for (unsigned byte = 0; byte < width; ++byte)
          value |= std::uint32_t{static_cast<unsigned char>(raw[at++])} << (8 * byte);
        ASSERT_EQ(value, token);
      }
    }
    EXPECT_EQ(at, raw.size());
  }
}

TEST(CliSample, TextIsAPictureByRank) {
  const CommandResult result = RunIterand("sample --recipe pointwise --count 2");
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const std::vector<std::string> lines = Lines(result.out);
  ASSERT_EQ(lines.size(), 2u * (1 + 512 / 128));
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i % 5 == 0) {
      EXPECT_THAT(lines[i], AllOf(StartsWith("# "), HasSubstr("pointwise"), HasSubstr("depth")));
    } else {
      EXPECT_EQ(lines[i].size(), 128u);
    }
  }
  // The commonest token is the one that is drawn as a dot.
  std::string picture;
  for (std::size_t i = 1; i < 5; ++i) picture += lines[i];
  for (const char glyph : picture) {
    EXPECT_LE(std::count(picture.begin(), picture.end(), glyph), std::count(picture.begin(), picture.end(), '.'))
        << glyph;
  }
}

TEST(CliSample, ShardsInterleavedAreTheStream) {
  const std::string whole = Raw("--recipe up --length 64 --count 64 --start 5");
  std::string woven(whole.size(), '\0');
  for (int rank = 0; rank < 4; ++rank) {
    const std::string shard =
        Raw("--recipe up --length 64 --count 16 --start 5 --world-size 4 --rank " + std::to_string(rank));
    ASSERT_EQ(shard.size(), whole.size() / 4);
    // The first index of the shard at or after 5.
    const int first = (rank - 5 % 4 + 4) % 4;
    for (int i = 0; i < 16; ++i) std::memcpy(&woven[(first + 4 * i) * 64], &shard[i * 64], 64);
  }
  EXPECT_EQ(woven, whole);
}

TEST(CliSample, StartGoesOnWhereTheLastRunEnded) {
  const std::string whole = Raw("--recipe lstm --length 32 --seed 9 --count 100 --start 1000");
  EXPECT_EQ(Raw("--recipe lstm --length 32 --seed 9 --count 37 --start 1000") +
                Raw("--recipe lstm --length 32 --seed 9 --count 63 --start 1037"),
            whole);
  EXPECT_NE(Raw("--recipe lstm --length 32 --seed 10 --count 100 --start 1000"), whole);
}

TEST(CliSample, ThreadsChangeNothing) {
  const std::string command = "$ITERAND sample --recipe up --length 64 --count 256 --format raw | sha256sum";
  const CommandResult one = RunShell("export OMP_NUM_THREADS=1; " + command);
  const CommandResult two = RunShell("export OMP_NUM_THREADS=2; " + command);
  EXPECT_EQ(one.out.size(), 68u);
  EXPECT_EQ(one.out, two.out);
  for (const std::string threads : {"1", "2", "3"}) {
    EXPECT_EQ(RunShell("$ITERAND sample --recipe up --length 64 --count 256 --format raw --threads " + threads +
                       " | sha256sum")
                  .out,
              one.out)
        << threads;
  }
}

TEST(CliSample, ServedAndInProcessAreEqual) {
  const RunningServer server;
  const std::string served = " --server " + server.address();
  const ScratchFolder scratch;
  WriteWholeFile(scratch.File("own.json"), R"({"families": [{"automaton": {}}, {"markov": {}}], "vocabSize": "500",
                                               "relabel": "RELABEL_PROGRAM", "length": "100"})");
  for (const std::string& arguments :
       {std::string("--recipe up --length 64 --count 300"),
        std::string("--recipe markov --count 5000 --start 123456789"),
        std::string("--recipe up --seed 18446744073709551615 --count 64 --length 30 --rank 3 --world-size 8"),
        "--count 77 --recipe " + scratch.File("own.json")}) {
    const std::string local = Raw(arguments);
    EXPECT_EQ(Raw(arguments + served), local) << arguments;
  }
  for (const std::string format : {"jsonl", "text"}) {
    const std::string arguments = "sample --recipe up --length 64 --count 50 --format " + format;
    EXPECT_EQ(RunIterand(arguments + served).out, RunIterand(arguments).out) << format;
  }
  EXPECT_EQ(RunIterand("describe up --json" + served).out, RunIterand("describe up --json").out);
  EXPECT_EQ(RunIterand("presets --json" + served).out, RunIterand("presets --json").out);
}

TEST(CliSample, AReaderThatGoesAwayIsNoFailure) {
  // The status of the first command of the pipe, which a POSIX shell does not give by itself.
  const CommandResult result = RunShell(
      "{ $ITERAND sample --recipe uniform --count 1000000 --format raw; echo status $? >&2; } | head -c 10 > "
      "/dev/null");
  EXPECT_EQ(result.err, "status 0\n");
}

TEST(CliSample, AFullDiskIsAFailure) {
  ExpectError(RunIterand("sample --recipe uniform --count 1000 --format raw > /dev/full"), 1, "No space left");
}

TEST(CliSample, AFileAtItsLimitIsAFailure) {
  const ScratchFolder scratch;
  ExpectError(
      RunShell("ulimit -f 8; $ITERAND sample --recipe uniform --count 1000 --format raw > " + scratch.File("rows")), 1,
      "File too large");
}

struct BadInput {
  const char* arguments;
  int exit_status;
  const char* part;  // of the message

  friend void PrintTo(const BadInput& input, std::ostream* out) { *out << "iterand " << input.arguments; }
};

class CliBadInput : public ::testing::TestWithParam<BadInput> {};

TEST_P(CliBadInput, EndsInOneLineThatSaysWhatIsWrong) {
  ExpectError(RunIterand(GetParam().arguments), GetParam().exit_status, GetParam().part);
}

INSTANTIATE_TEST_SUITE_P(
    Arguments, CliBadInput,
    ::testing::Values(
        BadInput{"", 2, "--help"}, BadInput{"frobnicate", 2, "frobnicate"},
        BadInput{"descibe up", 2, "not expected here: descibe up (did you mean describe?)"},
        BadInput{"sample --cuont=3", 2, "not expected here: --cuont=3 (did you mean --count?)"},
        BadInput{"sample --frmat raw", 2, "(did you mean --format?)"},
        BadInput{"--versoin", 2, "(did you mean --version?)"}, BadInput{"sample ---", 2, "not expected here: ---"},
        BadInput{"sample --format jsnol", 2, "(did you mean jsonl?)"},
        BadInput{"describe markvo", 2, "no preset is named \"markvo\" (did you mean markov?)"},
        BadInput{"sample --frobnicate", 2, "frobnicate"}, BadInput{"sample --count many", 2, "many"},
        BadInput{"sample --count -1", 2, "--count"}, BadInput{"sample --seed -1", 2, "--seed"},
        BadInput{"sample --seed 18446744073709551616", 2, "--seed"}, BadInput{"sample --format xml", 2, "xml"},
        BadInput{"sample --threads -2", 2, "--threads"}, BadInput{"sample --recipe nosuch", 2, "up-paper"},
        BadInput{"sample --recipe /no/such.json", 2, "/no/such.json"},
        BadInput{"sample --recipe /dev/null", 2, "/dev/null: recipe: JSON text is empty, must be an object"},
        BadInput{"sample --recipe /", 2, "/"}, BadInput{"sample --length 3", 2, "length"},
        BadInput{"sample --length 1000000000", 2, "length"},
        BadInput{"sample --rank 2 --world-size 2", 2, "--rank is 2; with --world-size 2 it must be 0 to 1"},
        BadInput{"sample --rank 1", 2, "--world-size 1"}, BadInput{"sample --world-size 0", 2, "--world-size"},
        BadInput{"sample --shard 0/2", 2, "not expected here: --shard (--shard is now --rank R --world-size W)"},
        BadInput{"sample --shard=0/2", 2, "(--shard is now --rank R --world-size W)"},
        BadInput{"dump --out /tmp/x --sequences 5", 2, "(--sequences is now --count)"},
        BadInput{"serve --prefetch 1mb", 2, "(--prefetch is now --readahead-bytes)"},
        BadInput{"serve --sequences 1", 2, "not expected here: --sequences 1"},
        BadInput{"sample --rank 0 --world-size 3", 2, "2 and 4"}, BadInput{"sample --rank 0 --world-size 33", 2, "32"},
        BadInput{"sample --start 18446744073709551615 --count 2", 2, "2^64"}, BadInput{"sample --tls", 2, "--server"},
        BadInput{"describe", 2, "RECIPE"}, BadInput{"describe nosuch", 2, "nosuch"},
        BadInput{"dump --count 5", 2, "--out"}, BadInput{"dump --out /tmp/x", 2, "--count"},
        BadInput{"dump --out /tmp/x --count 0", 2, "--count"},
        BadInput{"dump --out /proc/nowhere --count 1 --recipe uniform", 1, "/proc/nowhere"},
        BadInput{"dump --out /tmp/x --count 1 --name a/b", 2, "--name"},
        BadInput{"serve --listen nowhere", 2, "nowhere"}, BadInput{"serve --listen 127.0.0.1:99999", 2, "65535"},
        BadInput{"sample --server ''", 2, "--server"}, BadInput{"sample --server localhost", 2, "host:port"},
        BadInput{"sample --frob nicate 3", 2, "not expected here: --frob nicate 3"},
        BadInput{"sample --count", 2, "--count needs a value"},
        BadInput{"sample --count 1 --count 2", 2, "--count is given more than once"},
        BadInput{"explain --index -1", 2, "--index"}, BadInput{"explain --index x", 2, "--index"},
        BadInput{"describe up --json --recipe-json", 2, "excludes"}, BadInput{"dump --count 1 --out ''", 2, "--out"},
        BadInput{"serve --tls-cert /no/such.pem", 2, "--tls-key"},
        BadInput{"serve --cache-bytes many", 2, "--cache-bytes"},
        BadInput{"serve --max-stream-bytes 0", 2, "--max-stream-bytes"},
        BadInput{"serve --metrics-listen ''", 2, "--metrics-listen"},
        BadInput{"serve --metrics-listen abc", 2, "abc: it must be HOST:PORT"},
        BadInput{"serve --metrics-listen 127.0.0.1:86489", 2, "0 to 65535"},
        BadInput{"serve --metrics-listen 127.0.0.1:", 2, "0 to 65535"},
        BadInput{"serve --metrics-listen '[::1]:0'", 2, "IPv4"},
        BadInput{"sample --server 127.0.0.1:86489", 2, "1 to 65535"},
        BadInput{"sample --server 127.0.0.1:http", 2, "1 to 65535"}, BadInput{"sample --server ::1", 2, "host:port"},
        BadInput{"sample --server unix:", 2, "unix:path"},
        BadInput{"sample --server 127.0.0.1:1 --connect-timeout nan", 2, "--connect-timeout"},
        BadInput{"sample --server 127.0.0.1:1 --token-file /dev/zero", 2, "/dev/zero: is too large"},
        BadInput{"sample --server 127.0.0.1:1 --ca-file /dev/zero", 2, "/dev/zero: is too large"},
        BadInput{"sample --recipe /dev/zero", 2, "/dev/zero: is too large, may have at most 1048576 bytes"}));

TEST(CliBadRecipe, IsRefusedWithFileAndField) {
  const ScratchFolder scratch;
  const std::string file = scratch.File("bad.json");
  const auto sample = [&](const std::string& recipe) {
    WriteWholeFile(file, recipe);
    return RunIterand("sample --recipe " + file);
  };
  ExpectError(sample("{"), 2, file);
  ExpectError(sample("{\n \"families\": [\n  {\"lstm\": }]}"), 2, "line 3, column 12: ");
  ExpectError(sample("[]"), 2, "an object in braces");
  ExpectError(sample(R"({"length": 1e999})"), 2, "length: is 1e999, must be a whole number");
  ExpectError(sample(R"({"families": [{"lstm": {"hiden": {"fixed": 3}}}]})"), 2, "hiden");
  ExpectError(sample(R"({"families": [{"lstm": {"hidden": {"fixed": 1000000}}}]})"), 2, "families[0].lstm.hidden");
  ExpectError(sample(R"({"families": []})"), 2, "families");
}

TEST(CliServer, ThatIsNotThereIsAFailure) {
  // Port 1 of this machine: refused at once.
  ExpectError(RunIterand("sample --count 1 --server 127.0.0.1:1"), 1,
              "no iterand server answers at 127.0.0.1:1 within 3 s: Connection refused\n");
  ExpectError(RunIterand("sample --count 1 --connect-timeout 1 --server unix:/no/such.socket"), 1,
              "within 1 s: No such file or directory\n");
}

TEST(CliServer, TlsRootsWithoutACertificateAreRefused) {
  const ScratchFolder scratch;
  WriteWholeFile(scratch.File("roots.pem"), "no certificate\n");
  ExpectError(RunIterand("sample --server 127.0.0.1:1 --ca-file " + scratch.File("roots.pem")), 2,
              "roots.pem has no PEM certificate");
}

TEST(CliServer, MessagesComeThrough) {
  const RunningServer server;
  const std::string served = " --server " + server.address();
  ExpectError(RunIterand("sample --recipe nosuch" + served), 2, "up-paper");
  ExpectError(RunIterand("sample --rank 0 --world-size 3" + served), 2, "32");
  ExpectError(RunIterand("sample --length 3" + served), 2, "length");
  const ScratchFolder scratch;
  WriteWholeFile(scratch.File("bad.json"), R"({"families": [{"lstn": {}}]})");
  const std::string arguments = scratch.File("bad.json") + served;
  for (const std::string command : {"sample --recipe ", "describe "}) {
    ExpectError(RunIterand(command + arguments), 2, "bad.json: families[0]");
  }
}

TEST(CliServer, BatchesFitTheServersLimit) {
  const RunningServer server({"--max-batch-bytes", "16kb"});
  const std::string sample = "sample --recipe uniform --count 100 --format raw";
  const CommandResult served = RunIterand(sample + " --server " + server.address());
  EXPECT_EQ(served.exit_status, 0) << served.err;
  EXPECT_EQ(served.out, RunIterand(sample).out);
}

TEST(CliServer, EndsCleanlyOnSigterm) {
  RunningServer server;
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(server.address_file()));
}

// `timeout` sends its signal to the command and then to the command's group.
TEST(CliServer, EndsCleanlyOnASignalSentTwice) {
  for (const int milliseconds : {0, 1, 3, 10}) {
    RunningServer server;
    server.process().Signal(SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    server.process().Signal(SIGTERM);
    EXPECT_EQ(server.process().Wait(), 0) << milliseconds;
    EXPECT_FALSE(std::filesystem::exists(server.address_file()));
  }
}

}  // namespace
}  // namespace iterand::testing
