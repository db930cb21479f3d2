// Sequences as coloured cells of a terminal, in the colours of the server's page.
//
// A colour is a token's rank by frequency within its own sequence. It is magma, whose lightness rises steadily: people
// with colour blindness see the ranks too. The commonest token is nearest to the ground of the terminal.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "clients/cli/terminal.h"

namespace iterand::cli {

// Each token's rank among the tokens of a sequence by falling frequency, from 0; equals by first occurrence.
struct FrequencyRanks {
  std::vector<std::uint32_t> ranks;  // one per token
  std::size_t distinct = 0;          // different tokens
};
FrequencyRanks RanksOf(std::span<const std::uint32_t> tokens);

// The character of a rank, where there are no colours: '.' is the commonest token, then a-z, A-Z, 0-9, and '#' for all
// rarer ones.
char GlyphOf(std::uint32_t rank);

// The colour of a rank in 24 bits: red, green, blue. Ranks from 255 on have one colour.
std::array<int, 3> RankColour(std::uint32_t rank, bool light);

// Appends cells of some ranks in lines of at most `terminal.columns` cells, each with a newline. The lines are as few
// as possible and of equal length, except for the last. With UTF-8 a character has two cells, one above the other: a
// pair of rows is read from left to right, first the upper, then the lower. The terminal must have colours.
void AppendCells(std::span<const std::uint32_t> ranks, const Terminal& terminal, std::string& out);

// `text` in bold or faint letters, or as it is on a terminal without colours.
std::string Bold(std::string_view text, const Terminal& terminal);
std::string Faint(std::string_view text, const Terminal& terminal);

}  // namespace iterand::cli
