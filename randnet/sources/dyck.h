// Prefixes of random words of well-nested brackets, k-Dyck (Jiang et al. 2026, arXiv 2601.21725: 64 kinds, opening with
// probability 0.49; Hu et al. 2025, arXiv 2502.19249: depth up to 16).
//
// A program draws the number of kinds k, the probability p of opening and the largest depth. A row begins with nothing
// open; each token opens a bracket of a random kind with probability p, else closes the bracket that was opened last.
// At depth 0 a token always opens, at the largest depth it always closes. A row is cut at its length, so it is a prefix
// of a balanced word, in which some brackets may be open at the end.
//
// Symbols: i opens and k + i closes kind i, i < k; k is lowered to half the alphabet's size.
//
// Each token takes one 32-bit word: its high half h opens if h < p 2^16 (p is rounded down to a multiple of 2^-16), its
// low half l chooses kind (l k) div 2^16, which favours some kinds by less than k 2^-16.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kDyckEntry;

}  // namespace iterand
