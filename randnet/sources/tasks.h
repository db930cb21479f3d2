// Procedural tasks (Jiang et al. 2026, arXiv 2601.21725): input, separator, output, again and again until the row is
// full.
//
// A program draws one of `kinds`, its number of symbols k and the most symbols n of an input. Each instance has an
// input of a length uniform in 1 .. n, and is written as input, k, output, k + 1; two inputs have k + 2 between them.
// With `one_mark` it is input, k, output, k: only what came before distinguishes inputs from outputs.
//   IDENTITY  the input
//   REVERSE   the input backwards
//   SORT      the input in ascending order
//   SET       the first occurrence of each symbol, in their order
//   UNION     two inputs; the SET of both together
//   DELETE    an input and one of its symbols; the input without that symbol
//   STACK     symbols 1 .. k - 1 are pushed, symbol 0 pops (an empty stack stays empty); what is left, the top first.
//             With source RANDOM every third symbol or so is a pop, so that stacks stay small
// The last instance is cut at the row's end.
//
// Symbols of inputs are random (RANDOM), or those of the input row modulo k, in order and again from its beginning
// (ROW).
//
// Draws of a program: the kind, one of `kinds` by Below; symbols; items. Draws of an instance, from the row's
// generator: the length of the input, 1 + Below(n); with RANDOM a word w for each of its symbols; for UNION length and
// words of the second input; for DELETE the place of the deleted symbol in the input, Below(its length). The symbol of
// a word w is floor(w k / 2^32). Of STACK, with h and l the halves of w, it is 0, a pop, if 3 h < 2^16 (21 846 of the
// 2^16 values of h), else 1 + floor(l (k - 1) / 2^16), which leaves nothing out up to k - 1 = 65 532, but is less even
// the larger k is.
//
// The mask (Program::MarkTargets) marks the outputs, as the paper counts its loss: the symbols after the k of an input,
// up to and including the mark that ends the output.
//
// k is lowered to the alphabet's size less 3; an alphabet of fewer than 5 symbols is refused.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kTasksEntry;

}  // namespace iterand
