// k-shuffle Dyck: brackets of several kinds that may cross (Hu et al. 2025, arXiv 2502.19249: 64 kinds, opening with
// probability 0.5, depth up to 16).
//
// As randnet/sources/dyck.h, but what closes is a uniformly drawn one of the open brackets: each kind alone is
// balanced, brackets of different kinds may cross. With one kind the two families are the same.
//
// Each token takes one 32-bit word: its high half decides between opening and closing, its low half l chooses the kind
// (l k) div 2^16 or the open bracket (l depth) div 2^16. Open brackets are numbered in the order of opening, except
// that the last one takes the number of a bracket that is closed. The largest depth counts the open brackets of all
// kinds.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kDyckShuffleEntry;

}  // namespace iterand
