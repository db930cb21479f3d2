// Random Markov chains of order n, or of variable order, over k symbols with sparse Dirichlet transitions.
//
// A program draws its order n, k distinct symbols of the alphabet and a Dirichlet concentration. The next symbol
// depends on the context, the last n symbols: of order 1 every symbol has a transition row of its own; from order 2 on
// the context is hashed into one of `contexts` rows, so that a row is shared by unrelated contexts. Each row is a
// symmetric Dirichlet draw over the k symbols, made from a key of its own when a context is first met, which does not
// depend on when that is. The first n symbols of a sequence are uniform over the k symbols. Cf. the n-gram priors of
// Grau-Moya et al. 2024 (arXiv 2401.14953).
//
// Draws of a program: order; symbols, which is k; concentration; contexts; two words, the high and the low half of a
// key; the k symbols (DrawDistinct), which places 0 .. k - 1 stand for. Row c of the table is drawn by an Rng of state
// key + c 0xD1342543DE82EF95 and stream c (AliasBuilder::DrawDirichlet). From order 2 on the row of a context is
//
//   floor(h C / 2^32),  h the high half of (x + 1) 0x9E3779B97F4A7C15 mod 2^64,  C the number of contexts,
//
// x being the last n places, ten bits each, the last one lowest; of order 1 it is the last place. Each symbol of a
// sequence takes one word w of the row's generator: of the first n, the place is floor(w k / 2^32), of the others it is
// what DrawAlias draws with w from the context's row.
//
// With `tree` the contexts are those of a random suffix tree, the prior of context tree weighting (Willems, Shtarkov
// and Tjalkens 1995, "The context-tree weighting method: basic properties"; the variable-order sources of Grau-Moya et
// al.): a context is split by one more symbol of the past with probability `split` unless it has `depth` symbols, so
// that how far back the next symbol looks differs from context to context. A split makes k contexts of one; where that
// would make more than `contexts`, it is not done. Since that bound would otherwise favour what comes first, contexts
// are decided upon in random order. No two contexts share a row. The first symbols of a sequence, as many as the
// longest context has, are uniform. Depth, `split` and the tree are drawn before the key.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kMarkovEntry;

}  // namespace iterand
