// The program `iterand`: inspect.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A mixture of parts with different alphabets; one of them has a band.
constexpr char kMixture[] =
    R"({"description": "Two parts", "length": 64, "lanes": 4, "segment_sequences": 4, "mixture": [
  {"name": "noise", "preset": "uniform"},
  {"name": "sources", "recipe": {"families": [{"markov": {}}], "alphabet_size": 16, "band": {"low": 0.1, "high": 0.7}}}]})";

void ExpectError(const CommandResult& result, int exit_status, const std::string& part) {
  EXPECT_EQ(result.exit_status, exit_status) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, AllOf(StartsWith("iterand: "), HasSubstr(part)));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

class CliInspect : public ::testing::Test {
 protected:
  CliInspect() { WriteWholeFile(mixture_, kMixture); }

  static std::string Run(const std::string& arguments) {
    const CommandResult result = RunIterand(arguments);
    EXPECT_EQ(result.exit_status, 0) << arguments << ": " << result.err;
    EXPECT_EQ(result.err, "") << arguments;
    return result.out;
  }

  // Of `iterand inspect ARGUMENTS --json`.
  static json Streams(const std::string& arguments) {
    return json::parse(Run(absl::StrCat("inspect ", arguments, " --json")))["streams"];
  }
  static json Statistics(const std::string& arguments) { return Streams(arguments)[0]["statistics"]; }

  std::string Page(const std::string& arguments) const {
    Run(absl::StrCat("inspect ", arguments, " --html ", scratch_.File("page.html")));
    return ReadWholeFile(scratch_.File("page.html"));
  }

  // Makes a dump in the folder `name`; other tests look at its output.
  std::string Dump(const std::string& name, const std::string& arguments) const {
    EXPECT_EQ(RunIterand(absl::StrCat("dump --out ", scratch_.File(name), " ", arguments)).exit_status, 0) << arguments;
    return scratch_.File(name);
  }

  // What a terminal gets of `iterand inspect ARGUMENTS`.
  static std::string InTerminal(const std::string& variables, const std::string& arguments) {
    const CommandResult result = RunShell(absl::StrCat("env -u NO_COLOR -u COLORTERM ", variables,
                                                       " script -qec \"stty cols 80; $ITERAND inspect ", arguments,
                                                       " 2> /dev/null\" /dev/null < /dev/null"));
    EXPECT_EQ(result.exit_status, 0) << result.err;
    return result.out;
  }

  ScratchFolder scratch_;
  const std::string mixture_ = scratch_.File("mixture.json");
};

TEST_F(CliInspect, MeasuresWhatAStreamIsMadeOf) {
  const json noise = Statistics("uniform --count 40");
  EXPECT_EQ(noise["sequences"], 40);
  EXPECT_EQ(noise["structured_share"], 0);
  EXPECT_GT(noise["markov_bits"][0], 7);
  EXPECT_EQ(noise["code_bits"].size(), 4U);
  EXPECT_EQ(noise["complexity"].size(), 40U);
  EXPECT_FALSE(noise.contains("band_share"));
  const json sources = Statistics("markov --count 40");
  EXPECT_LT(sources["markov_bits"][1], noise["markov_bits"][1]);
  const json described = json::parse(Run("describe markov --seed 3 --json"));
  const json stream = Streams("markov --seed 3 --start 100 --count 2")[0];
  EXPECT_EQ(stream["fingerprint"], described["fingerprint"]);
  EXPECT_EQ(stream["first_index"], 100);
  EXPECT_EQ(stream["vocab_size"], 256);
}

TEST_F(CliInspect, TheFiguresAreThoseOfSample) {
  const json found = Statistics("pcfg --count 30");
  const std::string sample = Run("sample --recipe pcfg --count 30 --stats");
  EXPECT_THAT(sample, HasSubstr(absl::StrFormat("in-context Markov, orders 0-3          %.2f %.2f %.2f %.2f bits",
                                                double{found["markov_bits"][0]}, double{found["markov_bits"][1]},
                                                double{found["markov_bits"][2]}, double{found["markov_bits"][3]})));
}

TEST_F(CliInspect, CountsTheBandsOfTheirOwnParts) {
  const json found = Statistics(mixture_ + " --count 64");
  ASSERT_EQ(found["bands"].size(), 1U);
  EXPECT_EQ(found["bands"][0]["part"], "sources");
  EXPECT_GT(found["band_share"], 0.9);  // of the sources alone: noise is not in the band
  EXPECT_EQ(found["parts"][0]["sequences"], 32);
  const auto inside = std::ranges::count_if(found["complexity"], [](double value) { return value <= 0.7; });
  EXPECT_LE(inside, 33);
  EXPECT_THAT(Run("inspect --recipe " + mixture_),
              AllOf(HasSubstr(": Two parts\n"), ContainsRegex("in the band +[0-9.]+ %, 0.1 to 0.7 of sources"),
                    ContainsRegex("part noise +[0-9]+ sequences"), HasSubstr("2 parts: noise, sources; 4 lanes of 4")));
}

TEST_F(CliInspect, OneReportWhateverMadeTheSequences) {
  const RunningServer server;
  const std::string arguments = mixture_ + " --count 48 --compare pcfg lstm";
  const std::string page = Page(arguments + " --threads 1");
  EXPECT_GT(page.size(), 20000U);
  EXPECT_EQ(Page(arguments + " --threads 1"), page);
  EXPECT_EQ(Page(arguments + " --threads 2"), page);
  EXPECT_EQ(Page(arguments + " --server " + server.address()), page);
  EXPECT_EQ(Run("inspect " + arguments + " --threads 2"),
            Run("inspect --server " + server.address() + " " + arguments));
  EXPECT_EQ(Streams("--server " + server.address() + " --count 2")[0]["name"], "up");
}

TEST_F(CliInspect, OfADumpAsOfItsStream) {
  for (const std::string format : {"bin", "npy"}) {
    for (const std::string& recipe : {std::string("markov"), mixture_}) {
      const std::string folder =
          Dump(absl::StrCat(format, recipe == "markov"),
               absl::StrCat("--recipe ", recipe, " --start 3 --count 40 --seed 5 --format ", format));
      json stream = Streams(recipe + " --seed 5 --start 3 --count 40")[0];
      for (const std::string& name : {folder, absl::StrCat(folder, "/tokens.", format), folder + "/tokens.json"}) {
        stream["name"] = name;
        EXPECT_EQ(Streams(name)[0], stream) << name;
      }
      EXPECT_EQ(Statistics(folder + " --start 20 --count 10"), Statistics(recipe + " --seed 5 --start 20 --count 10"));
      ExpectError(RunIterand("inspect " + folder + " --start 43"), 2, "ends with the index 42");
    }
  }
}

TEST_F(CliInspect, OfARankOfADump) {
  const std::string folder = Dump("rank", "--recipe markov --rank 1 --world-size 4 --count 10");
  EXPECT_EQ(Streams(folder)[0]["first_index"], 1);
  EXPECT_EQ(Streams(folder + " --start 6")[0]["first_index"], 9);
  EXPECT_EQ(Statistics(folder + " --start 6")["sequences"], 8);
}

TEST_F(CliInspect, OfTokenFilesWithoutADescription) {
  const std::string folder = Dump("plain", "--recipe markov --length 64 --count 20");
  std::filesystem::rename(folder + "/tokens.bin", folder + "/other.bin");
  const json known = Statistics("markov --length 64 --count 20");
  const json found = Statistics(folder + "/other.bin --length 64");
  EXPECT_EQ(found["repeat_share"], known["repeat_share"]);
  EXPECT_EQ(found["entropy_quantiles"], known["entropy_quantiles"]);
  EXPECT_EQ(Statistics(folder + "/other.bin --length 48")["sequences"], 26);
  ExpectError(RunIterand("inspect " + folder + "/other.bin"), 2, "so --length must say how many tokens");
  ExpectError(RunIterand("inspect " + folder + "/other.bin --length 4"), 2, "must be 16 to 65536");
  ExpectError(RunIterand("inspect " + folder + "/other.bin --length 2000"), 2, "fewer than --length 2000");

  const std::string array = Dump("array", "--recipe markov --length 64 --count 20 --format npy");
  std::filesystem::rename(array + "/tokens.npy", array + "/other.npy");
  EXPECT_EQ(Statistics(array + "/other.npy")["repeat_share"], known["repeat_share"]);
  ExpectError(RunIterand("inspect " + array + "/other.npy --length 32"), 2, "has 64 tokens per sequence");
  const std::string bytes = ReadWholeFile(array + "/other.npy");
  WriteWholeFile(array + "/short.npy", bytes.substr(0, bytes.size() - 1));
  ExpectError(RunIterand("inspect " + array + "/short.npy"), 2, "do not match the 20 x 64 uint8 tokens");
  WriteWholeFile(array + "/text.npy", "text");
  ExpectError(RunIterand("inspect " + array + "/text.npy"), 2, "is not a NumPy array");
}

TEST_F(CliInspect, RefusesWhatIsNoWholeDump) {
  const std::string folder = Dump("dump", "--recipe markov --length 64 --count 20 --loss-mask");
  EXPECT_EQ(Statistics(folder)["sequences"], 20);  // the mask beside it is not a dump of tokens
  ExpectError(RunIterand("inspect " + folder + "/tokens.loss_mask.bin"), 2, "describes loss masks, not tokens");
  Dump("dump", "--recipe markov --length 64 --count 20 --name val");
  ExpectError(RunIterand("inspect " + folder), 2, "has several dumps, name one of them: ");
  const std::string bytes = ReadWholeFile(folder + "/val.bin");
  WriteWholeFile(folder + "/val.bin", bytes.substr(2));
  ExpectError(RunIterand("inspect " + folder + "/val.bin"), 2, "do not match the 20 x 64 uint16 tokens");
  std::string wrong = bytes;
  wrong[65 * 2 + 1] = '\x7f';
  WriteWholeFile(folder + "/val.bin", wrong);
  ExpectError(RunIterand("inspect " + folder + "/val.bin"), 1, "sequence 1 has a token that is not below 256");
  json description = json::parse(ReadWholeFile(folder + "/val.json"));
  description.erase("seed");
  WriteWholeFile(folder + "/val.json", description.dump());
  ExpectError(RunIterand("inspect " + folder + "/val.bin"), 2, "is not a whole description of a dump");
  ExpectError(RunIterand("inspect " + scratch_.path().string()), 2, "has no dump");
  std::filesystem::create_directory(scratch_.File("half"));
  WriteWholeFile(scratch_.File("half/tokens.bin.partial"), "");
  ExpectError(RunIterand("inspect " + scratch_.File("half")), 2, "is a dump in progress");
}

TEST_F(CliInspect, RefusesWrongRequests) {
  const std::string folder = Dump("dump", "--recipe markov --count 2");
  ExpectError(RunIterand("inspect"), 2, "RECIPE is missing");
  ExpectError(RunIterand("inspect markow"), 2, "did you mean markov?");
  ExpectError(RunIterand("inspect markov --compare lstn"), 2, "did you mean lstm?");
  ExpectError(RunIterand("inspect markov --compare"), 2, "--compare");
  ExpectError(RunIterand("inspect markov --count 0"), 2, "is not a whole number from 1 to 65536");
  ExpectError(RunIterand("inspect none.bin"), 2, "none.bin: No such file or directory");
  ExpectError(RunIterand("inspect " + folder + " --seed 1"), 2, "--seed is for recipes");
  ExpectError(RunIterand("inspect " + folder + " --server localhost:1"), 2, "--server is for recipes");
  ExpectError(RunIterand("inspect markov --start 18446744073709551615"), 2, "would exceed 2^64 - 1");
  ExpectError(RunIterand("inspect markov --count 1 --html " + scratch_.File("none/page.html")), 1, "cannot be written");
}

TEST_F(CliInspect, ThePageIsWhole) {
  const std::string page = Page("markov --count 4");
  EXPECT_THAT(page, AllOf(StartsWith("<!doctype html>"), HasSubstr("<title>markov</title>"),
                          HasSubstr("default-src 'none'"), Not(HasSubstr("{{")), Not(HasSubstr("\nimport ")),
                          Not(HasSubstr("\nexport ")), Not(HasSubstr(" src=")), Not(HasSubstr("href=\"http"))));
  EXPECT_THAT(Page("markov --count 4 --compare pcfg"), HasSubstr("<title>markov, pcfg</title>"));
}

TEST_F(CliInspect, ThePageRunsNothingOfARecipe) {
  WriteWholeFile(mixture_, R"({"description": "</script><script>alert(1)</script>", "families": [{"markov": {}}]})");
  const std::string odd = scratch_.File("<b>&.json");
  WriteWholeFile(odd, ReadWholeFile(mixture_));
  const std::string page = Page("'" + odd + "' --count 2");
  EXPECT_THAT(page, AllOf(Not(HasSubstr("<script>alert")), HasSubstr("&lt;b&gt;&amp;.json</title>")));
}

TEST_F(CliInspect, APipeGetsCharactersAlone) {
  const std::string text = Run("inspect markov --count 20");
  EXPECT_TRUE(std::ranges::all_of(text, [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); })) << text;
  EXPECT_THAT(text,
              AllOf(StartsWith("markov: "), HasSubstr("\nuint8 tokens below 256, 512 per sequence; 100 % markov; "),
                    ContainsRegex("sequences +20 from index 0"), HasSubstr("Bits per token by sixteenth"),
                    HasSubstr("Mutual information in bits by distance"), HasSubstr("Complexity of the sequences")));
  const std::string table = Run("inspect --compare markov uniform --count 20");
  EXPECT_THAT(table, AllOf(StartsWith("stream "), ContainsRegex("\nmarkov +20 "), ContainsRegex("\nuniform +20 ")));
}

TEST_F(CliInspect, ATerminalGetsColoursUnlessItsUserWantsNone) {
  const std::string arguments = "markov --count 20";
  EXPECT_THAT(InTerminal("LC_ALL=C.UTF-8 TERM=xterm COLORTERM=truecolor", arguments),
              AllOf(HasSubstr("\033[38;2;"), HasSubstr("\u2580")));
  EXPECT_THAT(InTerminal("LC_ALL=C TERM=xterm-256color", arguments),
              AllOf(HasSubstr("\033[48;5;"), Not(HasSubstr("\u2580"))));
  for (const std::string variables : {"TERM=xterm-256color NO_COLOR=1", "TERM=dumb"}) {
    EXPECT_THAT(InTerminal(variables, arguments), AllOf(HasSubstr("markov"), Not(HasSubstr("\033[")))) << variables;
  }
}

}  // namespace
}  // namespace iterand::testing
