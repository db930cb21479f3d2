// Random Markov chains of order n, or of variable order, over k symbols with sparse Dirichlet transitions.
//
// A program draws its order n, k distinct symbols of the alphabet and a Dirichlet concentration. The next symbol
// depends on the context, the last n symbols: of order 1 every symbol has a transition row of its own; from order 2 on
// the context is hashed into one of `contexts` rows, so that a row is shared by unrelated contexts. Each row is a
// symmetric Dirichlet draw over the k symbols, made from a key of its own when a context is first met, which does not
// depend on when that is. The first n symbols of a sequence are uniform over the k symbols. Cf. the n-gram priors of
// Grau-Moya et al. 2024 (arXiv 2401.14953).
//
// With `tree` the contexts are those of a random suffix tree, the prior of context tree weighting (Willems, Shtarkov
// and Tjalkens 1995, "The context-tree weighting method: basic properties"; the variable-order sources of Grau-Moya et
// al.): a context is split by one more symbol of the past with probability `split` unless it has `depth` symbols, so
// that how far back the next symbol looks differs from context to context. A split makes k contexts of one; where that
// would make more than `contexts`, it is not done. Since that bound would otherwise favour what comes first, contexts
// are decided upon in random order. No two contexts share a row. The first symbols of a sequence, as many as the
// longest context has, are uniform.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kMarkovEntry;

}  // namespace iterand
