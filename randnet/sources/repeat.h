// A word of random symbols, again and again until the row is full: what `rep-n` of Bloem 2025 (arXiv 2506.20057)
// evaluates, as a source. A learner can predict it only from the window: it has to find what followed the same symbols
// before and to copy it, whatever they are (Olsson et al. 2022, "In-context learning and induction heads").
//
// A program draws the word's length n (`period`), lowered to the row's length, and its number of symbols k, lowered to
// the alphabet's size. Each row has a word of its own:
//   RANDOM   n independent uniform symbols below k
//   ROW      the first n symbols of the input row modulo k
// Symbol t of the row is symbol t mod n of the word. The mask (Program::MarkTargets) marks the symbols from the n-th
// on, counted from 0: those that the window determines.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kRepeatEntry;

}  // namespace iterand
