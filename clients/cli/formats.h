// How sequences are written for people and for programs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "clients/cli/terminal.h"
#include "iterand/types.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {

// JSON for standard output, indented, with a newline at its end. It is ASCII alone, so that no text of a server can
// command a terminal. What is not UTF-8 becomes U+FFFD.
std::string JsonText(const nlohmann::ordered_json& json);

// The tokens of one sequence, whatever their dtype, as 32-bit numbers.
void WidenTokens(std::span<const std::byte> sequence, Dtype dtype, std::vector<std::uint32_t>& tokens);

// Readable picture of a sequence: a line that says where it came from, then one character per token, in lines of 128.
// The character stands for the token's rank among the tokens of this sequence, by falling frequency (equals by first
// occurrence). '.' is the commonest token, then a-z, A-Z, 0-9, and '#' for all rarer ones. This shows structure
// whatever labels the tokens have.
void AppendPicture(std::uint64_t index, const Provenance& provenance, std::span<const std::uint32_t> tokens,
                   std::string& out);

// The same for a terminal with colours: a line of text, a line with the sampled parameters of the program that made the
// sequence last, cut to the terminal's width, and cells (AppendCells). An empty `program` has no line.
void AppendColouredPicture(std::uint64_t index, const Provenance& provenance, const std::string& program,
                           std::span<const std::uint32_t> tokens, const Terminal& terminal, std::string& out);

// One JSON object, one line: {"index": .., "tokens": [..], "provenance": {"lane": .., "segment": .., "round": ..,
// "row": .., "family": "..", "depth": .., "part": ".."}}, "part" only if the recipe is a mixture; with a mask that is
// not empty, "loss_mask": [0 and 1 ..] after the tokens.
void AppendJsonLine(std::uint64_t index, const Provenance& provenance, std::span<const std::uint32_t> tokens,
                    std::span<const std::byte> mask, std::string& out);

}  // namespace iterand::cli
