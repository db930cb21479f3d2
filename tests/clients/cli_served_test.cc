// With and without --server, `iterand` prints the same, byte for byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using ::testing::HasSubstr;

// A recipe that uses most features of recipes.
constexpr char kOwnRecipe[] = R"({
  "description": "Automata and Markov chains.",
  "families": [{"automaton": {}, "weight": 2}, {"markov": {}}],
  "mix": "ROUND", "vocab_size": 500, "relabel": "PROGRAM", "length": 100, "lanes": 8, "segment_sequences": 12,
  "distinct": true})";

// Families that pose a task have loss masks of their own.
constexpr char kTasksRecipe[] = R"({"families": [{"tasks": {}}], "length": 64, "lanes": 4})";

// A description without what is measured where the sequences are generated: the line "speed" and the last column of the
// table of parts.
std::string WithoutMeasurements(const std::string& text) {
  std::istringstream lines(text);
  std::string kept;
  std::size_t width = std::string::npos;  // of the table
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("  speed ")) continue;
    if (const std::size_t column = line.find("  tokens/s of one core, measured"); column != std::string::npos) {
      width = column;
    } else if (line.empty()) {
      width = std::string::npos;
    }
    kept += line.substr(0, width) + "\n";
  }
  return kept;
}

class CliServed : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new RunningServer(); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  void SetUp() override {
    WriteWholeFile(own_, kOwnRecipe);
    WriteWholeFile(tasks_, kTasksRecipe);
  }

  void ExpectSame(const std::string& arguments) {
    const CommandResult local = RunIterand(arguments);
    const CommandResult served = RunIterand(arguments + " --server " + server_->address());
    EXPECT_EQ(local.exit_status, 0) << arguments << ": " << local.err;
    EXPECT_EQ(served.exit_status, 0) << arguments << ": " << served.err;
    EXPECT_FALSE(local.out.empty()) << arguments;
    EXPECT_EQ(WithoutMeasurements(served.out), WithoutMeasurements(local.out)) << arguments;
    EXPECT_EQ(served.err, local.err) << arguments;
  }

  void ExpectSameError(const std::string& arguments, const std::string& part) {
    const CommandResult local = RunIterand(arguments);
    const CommandResult served = RunIterand(arguments + " --server " + server_->address());
    EXPECT_EQ(local.exit_status, 2) << arguments;
    EXPECT_EQ(served.exit_status, 2) << arguments;
    EXPECT_THAT(local.err, HasSubstr(part));
    EXPECT_EQ(served.err, local.err);
  }

  static RunningServer* server_;
  const ScratchFolder scratch_;
  const std::string own_ = scratch_.File("own.json");
  const std::string tasks_ = scratch_.File("tasks.json");
};

RunningServer* CliServed::server_ = nullptr;

TEST_F(CliServed, Presets) {
  ExpectSame("presets");
  ExpectSame("presets --json");
  const auto list = nlohmann::json::parse(RunIterand("presets --json").out);
  int readers = 0;
  for (const auto& family : list["families"]) readers += family["reads_input"].get<bool>() ? 1 : 0;
  EXPECT_GT(readers, 0);
  EXPECT_LT(readers, static_cast<int>(list["families"].size()));
}

TEST_F(CliServed, Describe) {
  for (const std::string& recipe : {std::string("up"), std::string("lstm"), std::string("up-paper"), own_, tasks_,
                                    std::string(R"('{"families": [{"uniform": {}}], "length": 32}')")}) {
    for (const std::string options : {"", " --json", " --recipe-json", " --seed 18446744073709551615 --length 48"}) {
      ExpectSame(absl::StrCat("describe ", recipe, options));
    }
  }
}

TEST_F(CliServed, Sample) {
  for (const std::string& recipe :
       {std::string("up --length 64"), std::string("markov"), std::string("lstm --length 32 --seed 9"), own_, tasks_}) {
    for (const std::string options :
         {"", " --format jsonl", " --format jsonl --loss-mask", " --format raw --count 100",
          " --format jsonl --start 1001 --count 20 --rank 3 --world-size 4", " --stats", " --format raw --stats"}) {
      ExpectSame(absl::StrCat("sample --recipe ", recipe, options));
    }
  }
}

TEST_F(CliServed, RefusalsOfRequests) {
  ExpectSameError("describe nosuch", "a recipe file's path has a / in it");
  ExpectSameError("sample --recipe markvo", "did you mean markov?");
  ExpectSameError("sample --length 3", "length");
  ExpectSameError("sample --world-size 3", "2 and 4");
  ExpectSameError("sample --recipe /no/such.json", "/no/such.json");
  ExpectSameError("describe ' '", "recipe: is empty");
  WriteWholeFile(own_, R"({"families": [{"lstn": {}}]})");
  ExpectSameError("describe " + own_, own_ + ": families[0]");
  ExpectSameError("sample --recipe " + own_, own_ + ": families[0]");
  WriteWholeFile(own_, R"({"families": [{"lstm": {"hidden": {"fixed": 1000000}}}]})");
  ExpectSameError("sample --recipe " + own_, own_ + ": families[0].lstm.hidden");
}

}  // namespace
}  // namespace iterand::testing
