// What a terminal can show by its variables, and cells of sequences.

#include "clients/cli/terminal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "clients/cli/cells.h"

namespace iterand::cli {
namespace {

using ::testing::ElementsAre;

Terminal With(const std::map<std::string, std::string>& variables, int columns = 80) {
  return TerminalWith(
      [&variables](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? std::string() : found->second;
      },
      columns);
}

TEST(Terminal, ColoursFollowTheVariables) {
  const auto colours = [](const std::map<std::string, std::string>& variables) { return With(variables).colours; };
  EXPECT_EQ(colours({{"TERM", "xterm"}, {"COLORTERM", "truecolor"}}), ColourDepth::k24Bit);
  EXPECT_EQ(colours({{"TERM", "xterm"}, {"COLORTERM", "24bit"}}), ColourDepth::k24Bit);
  EXPECT_EQ(colours({{"TERM", "xterm-direct"}}), ColourDepth::k24Bit);
  EXPECT_EQ(colours({{"TERM", "screen-256color"}}), ColourDepth::k256);
  EXPECT_EQ(colours({{"TERM", "linux"}}), ColourDepth::k16);
  EXPECT_EQ(colours({{"TERM", "unknown"}, {"COLORTERM", "yes"}}), ColourDepth::k16);
  EXPECT_EQ(colours({{"TERM", "vt100"}}), ColourDepth::kNone);
  EXPECT_EQ(colours({{"TERM", "xterm-mono"}}), ColourDepth::kNone);
  EXPECT_EQ(colours({{"TERM", "dumb"}, {"COLORTERM", "truecolor"}}), ColourDepth::kNone);
  EXPECT_EQ(colours({{"COLORTERM", "truecolor"}}), ColourDepth::kNone);
  EXPECT_EQ(colours({{"TERM", "xterm-256color"}, {"NO_COLOR", "1"}}), ColourDepth::kNone);
  EXPECT_EQ(colours({{"TERM", "xterm-256color"}, {"NO_COLOR", ""}}), ColourDepth::k256);
}

TEST(Terminal, TheFirstLocaleThatIsSetDecides) {
  EXPECT_TRUE(With({{"LANG", "en_GB.UTF-8"}}).unicode);
  EXPECT_TRUE(With({{"LANG", "C"}, {"LC_CTYPE", "C.utf8"}}).unicode);
  EXPECT_FALSE(With({{"LANG", "en_GB.UTF-8"}, {"LC_ALL", "C"}}).unicode);
  EXPECT_FALSE(With({}).unicode);
}

TEST(Terminal, TheGroundIsLightIfTheTerminalSaysSo) {
  for (const char* const light : {"0;15", "0;default;15", "0;7", "15"}) EXPECT_TRUE(With({{"COLORFGBG", light}}).light);
  for (const char* const dark : {"15;0", "7;8", "15;default", "", "15;16"}) {
    EXPECT_FALSE(With({{"COLORFGBG", dark}}).light) << dark;
  }
}

TEST(Terminal, WhatIsNoTerminalHasNoColours) {
  EXPECT_EQ(TerminalOf(-1).colours, ColourDepth::kNone);
  EXPECT_EQ(TerminalOf(-1).columns, 80);
}

TEST(Cells, RanksAreByFrequencyAndThenByPlace) {
  const std::vector<std::uint32_t> tokens = {7, 7, 3, 9, 3, 7, 70000};
  const FrequencyRanks found = RanksOf(tokens);
  EXPECT_THAT(found.ranks, ElementsAre(0, 0, 1, 2, 1, 0, 3));
  EXPECT_EQ(found.distinct, 4u);
  EXPECT_EQ(RanksOf({}).distinct, 0u);
}

TEST(Cells, TheCommonestIsNearestToTheGround) {
  EXPECT_THAT(RankColour(0, /*light=*/true), ElementsAre(252, 253, 191));
  EXPECT_LT(std::ranges::max(RankColour(0, /*light=*/false)), 50);
  EXPECT_THAT(RankColour(255, /*light=*/false), ElementsAre(252, 253, 191));
  EXPECT_EQ(RankColour(4'000'000'000, /*light=*/true), RankColour(255, /*light=*/true));
}

TEST(Cells, LinesAreFewAndOfEqualLength) {
  const auto shape = [](std::size_t cells, const Terminal& terminal) {
    const std::vector<std::uint32_t> ranks(cells, 0);
    std::string out;
    AppendCells(ranks, terminal, out);
    std::vector<int> lines = {0};
    std::string_view rest = out;
    while (!rest.empty()) {
      if (rest.starts_with("\033[")) {
        rest.remove_prefix(rest.find('m') + 1);
      } else if (rest.front() == '\n') {
        lines.push_back(0);
        rest.remove_prefix(1);
      } else {
        ++lines.back();
        rest.remove_prefix(rest.starts_with("\u2580") ? 3 : 1);
      }
    }
    EXPECT_EQ(lines.back(), 0);
    lines.pop_back();
    return lines;
  };
  const Terminal pairs = {.colours = ColourDepth::k24Bit, .unicode = true, .columns = 80};
  EXPECT_THAT(shape(512, pairs), ElementsAre(64, 64, 64, 64));
  EXPECT_THAT(shape(161, pairs), ElementsAre(41, 41));
  EXPECT_THAT(shape(160, pairs), ElementsAre(80));
  EXPECT_THAT(shape(1, pairs), ElementsAre(1));
  EXPECT_THAT(shape(0, pairs), ElementsAre());
  EXPECT_THAT(shape(5, {.colours = ColourDepth::k256, .unicode = true, .columns = 1}), ElementsAre(1, 1, 1));
  EXPECT_THAT(shape(161, {.colours = ColourDepth::k16, .columns = 80}), ElementsAre(54, 54, 53));
}

TEST(Cells, APairIsOneCharacterOfTwoColours) {
  const std::vector<std::uint32_t> ranks = {0, 1, 1};
  std::string out;
  AppendCells(ranks, {.colours = ColourDepth::k16, .unicode = true}, out);
  EXPECT_EQ(out, "\033[30;44m\u2580\033[34;49m\u2580\033[0m\n");
  out.clear();
  AppendCells(ranks, {.colours = ColourDepth::k256, .light = true, .columns = 3}, out);
  EXPECT_EQ(out, "\033[48;5;229m \033[48;5;215m  \033[0m\n");
}

TEST(Cells, LettersAreStyledOnlyWithColours) {
  EXPECT_EQ(Bold("a", With({{"TERM", "xterm"}})), "\033[1ma\033[0m");
  EXPECT_EQ(Faint("a", With({{"TERM", "xterm"}})), "\033[2ma\033[0m");
  EXPECT_EQ(Bold("a", With({{"TERM", "dumb"}})), "a");
}

}  // namespace
}  // namespace iterand::cli
