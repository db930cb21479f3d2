// BrainPhoque: Brainf*ck programs that are sampled while they run (Grau-Moya et al. 2024, "Learning universal
// predictors", arXiv 2401.14953; also Bloem 2025, arXiv 2506.20057).
//
// Machine: a circular tape of `cells` cells, all 0 at the start, each a symbol 0 .. symbols - 1; a pointer, at first at
// cell 0.
//   + -   add 1 to the cell, subtract 1, modulo `symbols`
//   > <   move the pointer right, left, modulo `cells`
//   .     write the cell
//   ,     read the next symbol of the input row, modulo `symbols`, into the cell; after its end the row begins again
//   [     go into the loop's body if the cell is not 0, else to what follows the loop
//   ]     go back to the loop's `[`, unconditionally; without an open loop it does nothing
// Every instruction executed, `[` and `]` too, is one step.
//
// Sampling: an instruction is drawn when it is first reached, so every instruction of a program is executed and no
// program is malformed. A `[` first met with cell 0 is written `{` in the paper's text: what follows the loop comes at
// once, the body is drawn when (if ever) it is entered. The program is thus a tree: an instruction is followed by one
// other, a loop by the first of its body and by what comes after it. A `]` closes the innermost loop whose body
// contains it.
//
// Which instruction is at a place depends on the program's key and on the place in the tree alone, never on the order
// of the run. Each place has a 64-bit state; the root's is drawn, and a place's state is that of the place before it
// times PCG's multiplier plus one of three constants (after an instruction, into a body, after a loop); the instruction
// is drawn from PCG's output function of the state. So one program can run on many rows and reads the same for each
// (`shared`). By default every row has a program of its own, since programs that read little make equal rows.
//
// Priors: UNIFORM, each of the instructions equally likely (word * count div 2^32); ORDER_2, depending on the two
// instructions before it (on the path through the tree), by a built-in table of probabilities in units of 2^-8 (the
// paper's table is not published). Ours was counted over the programs of the uniform prior, with reading, 128 symbols,
// 10 cells, 100 instructions and 1 000 steps, that write at least 64 symbols, among them at least 8 different ones;
// tests/randnet/machines/brainphoque_test.cc counts it again. With `reads` false there is no `,`; in ORDER_2 its share
// goes to `.`.
//
// A row ends when it is full, after `max_steps` steps, or when an instruction after the `max_instructions`-th would be
// drawn; what it has written is then repeated to fill the row. A program that has written nothing is thrown away and
// another is tried, at most `attempts` in all; if none writes, the row is all symbol 0. (Bloem 2025 repeats; Grau-Moya
// et al. mask what follows the output: with `mask_padding` the loss mask, if the recipe has one, marks the output
// alone.)
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kBrainphoqueEntry;

// The text of the program that ran on the first row of the last Run, in the order in which its instructions were drawn,
// with `{` for a loop whose body was not entered at once. Empty for programs of other families.
std::string BrainphoqueText(const Program& program);

// The instructions in the order of their numbers.
inline constexpr char kBrainphoqueInstructions[] = "+-><[].,";
inline constexpr int kBrainphoqueCount = 8;

// ORDER_2: weights, in units of 2^-8, of the instruction after `first` and `second`, at [(first * 9 + second) * 8 +
// instruction]; 8 stands for none, at the beginning of a program.
extern const std::array<std::uint8_t, 9 * 9 * 8> kBrainphoqueOrder2;

}  // namespace iterand
