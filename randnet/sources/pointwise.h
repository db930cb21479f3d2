// Pointwise: independent tokens from a random distribution over a few symbols.
//
// A program draws k distinct symbols of the alphabet (`symbols`, at most the alphabet's size; k = 0 reads as 1) and
// Dirichlet weights for them (`concentration`). With `rest_concentration` > 0 every other symbol gets a gamma weight of
// that shape too. The published program (Bloem 2025, arXiv 2506.20057, code): k uniform in {0..19}, weight 1 for those,
// 1e-8 for the rest. Tokens are drawn by an alias table, one 32-bit word per token (DrawAlias).
//
// Draws of a program: symbols; concentration; rest_concentration; the k symbols, or with the rest all of the alphabet
// (DrawDistinct), of which the first k are those; DrawLogGammas for the k, then for the rest. The weights are
// ExpBelowLargest of all of them together.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kPointwiseEntry;

}  // namespace iterand
