// The program `iterand` with a recipe of several parts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

// Stripes of 8 x 6 = 48 sequences. From index 96 on, three quarters are of sources.
constexpr char kRecipe[] = R"({"length": 64, "lanes": 8, "segment_sequences": 6, "mixture": [
  {"name": "noise", "preset": "uniform", "weight": [{"at": 96, "weight": 1}, {"at": 96, "weight": 0.5}]},
  {"name": "sources", "weight": [{"at": 96, "weight": 0}, {"at": 96, "weight": 1.5}], "recipe": {"mixture": [
    {"preset": "markov", "weight": 2}, {"preset": "lstm"}]}}]})";

class CliMixture : public ::testing::Test {
 protected:
  CliMixture() { WriteWholeFile(file_, kRecipe); }

  std::string Run(const std::string& arguments) {
    const CommandResult result = RunIterand(arguments);
    EXPECT_EQ(result.exit_status, 0) << arguments << ": " << result.err;
    return result.out;
  }

  ScratchFolder scratch_;
  const std::string file_ = scratch_.File("mixture.json");
};

std::map<std::string, double> Shares(const json& described) {
  std::map<std::string, double> shares;
  for (const json& part : described["parts"]) shares[part["name"]] = part["share"];
  return shares;
}

TEST_F(CliMixture, DescribeShowsSharesAtAnIndex) {
  const json start = json::parse(Run("describe " + file_ + " --json"));
  EXPECT_EQ(Shares(start), (std::map<std::string, double>{{"noise", 1}, {"sources/markov", 0}, {"sources/lstm", 0}}));
  EXPECT_EQ(start["at"], 0);
  EXPECT_EQ(start["cost"]["flops_per_token"], 0);
  const json later = json::parse(Run("describe " + file_ + " --at 96 --json"));
  EXPECT_EQ(Shares(later),
            (std::map<std::string, double>{{"noise", 0.25}, {"sources/markov", 0.5}, {"sources/lstm", 0.25}}));
  EXPECT_EQ(later["cost"]["flops_per_token"], 0.25 * double{later["parts"][2]["flops_per_token"]});
  EXPECT_EQ(later["fingerprint"], start["fingerprint"]);
  const std::string text = Run("describe " + file_ + " --at 100");
  EXPECT_THAT(text, AllOf(HasSubstr("3, each segment by one of them"), HasSubstr("Parts at index 100:"),
                          ContainsRegex("\n  noise +25.0 % +-  +[0-9.]+ [MG]"),
                          ContainsRegex("\n  sources/markov +50.0 % +-  +[0-9.]+ [MG]"),
                          ContainsRegex("\n  sources/lstm +25.0 % +[0-9.]+ k  +[0-9.]+ [kM]")));
  EXPECT_EQ(RunIterand("describe " + file_ + " --at -1").exit_status, 2);
  EXPECT_THAT(Run("describe markov"), ContainsRegex("speed +[0-9.]+ Mtokens/s of one core, measured"));
}

TEST_F(CliMixture, SamplesAndExplanationsNameThePart) {
  std::istringstream lines(Run("sample --recipe " + file_ + " --start 90 --count 20 --format jsonl"));
  std::vector<std::string> parts;
  for (std::string line; std::getline(lines, line);) parts.push_back(json::parse(line)["provenance"]["part"]);
  ASSERT_EQ(parts.size(), 20U);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(parts[i], "noise");
  std::map<std::string, int> counts;
  for (std::size_t i = 6; i < 14; ++i) ++counts[parts[i]];  // indices 96 to 103, a row of each lane
  EXPECT_EQ(counts, (std::map<std::string, int>{{"noise", 2}, {"sources/markov", 4}, {"sources/lstm", 2}}));

  for (std::uint64_t index = 96; index < 104; ++index) {
    const std::string ask = absl::StrCat("explain --recipe ", file_, " --index ", index);
    const json explained = json::parse(Run(ask + " --json"));
    EXPECT_EQ(explained["part"], parts[index - 90]);
    EXPECT_EQ(explained["reproduced"], true);
    EXPECT_THAT(Run(ask), HasSubstr(absl::StrCat("\npart ", parts[index - 90], "\n")));
    EXPECT_THAT(Run(absl::StrCat("sample --recipe ", file_, " --start ", index, " --count 1")),
                HasSubstr(absl::StrCat("# ", index, ": part ", parts[index - 90], ", ")));
  }
}

TEST_F(CliMixture, StatisticsHaveATableOfParts) {
  const std::string text = Run("sample --recipe " + file_ + " --start 96 --count 480 --stats");
  EXPECT_THAT(text, AllOf(ContainsRegex("\nnoise +25.0 % +0.0 %"), ContainsRegex("\nsources/markov +50.0 %"),
                          ContainsRegex("\nsources/lstm +25.0 %")));
  EXPECT_THAT(Run("sample --recipe markov --count 48 --stats"), ::testing::Not(HasSubstr("part")));
}

TEST_F(CliMixture, ServedIsTheSame) {
  RunningServer server;
  for (const std::string arguments :
       {"--count 200 --format raw", "--count 30 --start 90 --format jsonl", "--start 96 --count 480 --stats",
        "--rank 1 --world-size 4 --count 40 --format raw"}) {
    const std::string sample = "sample --recipe " + file_ + " " + arguments;
    EXPECT_EQ(Sha256Hex(Run(sample + " --server " + server.address())), Sha256Hex(Run(sample))) << arguments;
  }
  const std::string describe = "describe " + file_ + " --at 96 --json";
  EXPECT_EQ(Run(describe + " --server " + server.address()), Run(describe));
  EXPECT_THAT(Run("describe " + file_ + " --at 96 --server " + server.address()),
              AllOf(HasSubstr("sources/markov"), ::testing::Not(HasSubstr("measured"))));
}

TEST_F(CliMixture, ErrorsNameFileAndPath) {
  WriteWholeFile(file_, R"({"mixture": [{"preset": "up-paper"}]})");
  const CommandResult result = RunIterand("describe " + file_);
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr(absl::StrCat(file_, ": mixture[0].preset \"up-paper\": pool.endless: is true")));
}

}  // namespace
}  // namespace iterand::testing
