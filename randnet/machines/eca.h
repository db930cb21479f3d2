// One-dimensional cellular automata with random rules; a row is a space-time diagram.
//
// A program draws its number of states k, its radius r, a width W, Langton's lambda and a rule: a table that gives the
// next state of a cell for each of the k^(2 r + 1) neighbourhoods, the cells at offsets -r .. r. Each entry of a random
// table is state 0 with probability 1 - lambda, else uniform over 1 .. k - 1 (Langton 1990, "Computation at the edge of
// chaos"). `rule` >= 0 fixes the table by Wolfram's number instead: digit n of the number in base k is the next state
// of neighbourhood n, whose most significant digit in base k is the leftmost cell; digits beyond the number are 0. A
// number is a rule only for one k and one r: then both knobs must have one value, and the number that of a table of
// theirs. So {"states": {"fixed": 2}, "radius": {"fixed": 1}, "rule": {"fixed": 110}} is elementary rule 110 (Wolfram
// 1983, "Statistical mechanics of cellular automata").
//
// The W cells form a ring. A row is the concatenation of generations 0, 1, 2, ..., each W symbols wide, cut at the
// row's length; with `warm_up` = n it begins at generation n. Symbols are the states. Generation 0 is
//   INPUT    symbol i of the input row modulo k, for i < W
//   RANDOM   uniform states, drawn per row
//   SINGLE   state 1 in cell W / 2 (rounded down), else state 0; all rows of a program are then equal
//
// Limits: k is lowered to the alphabet's size, W to the row's length, and r until the table has at most 65 536 entries.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kEcaEntry;

}  // namespace iterand
