// Random Markov chains of order n over k symbols with sparse Dirichlet transitions.
//
// A program draws its order n, k distinct symbols of the alphabet and a Dirichlet concentration. The next symbol
// depends on the context, the last n symbols: of order 1 every symbol has a transition row of its own; from order 2 on
// the context is hashed into one of `contexts` rows, so that a row is shared by unrelated contexts. Each row is a
// symmetric Dirichlet draw over the k symbols, made from a key of its own when a context is first met, which does not
// depend on when that is. The first n symbols of a sequence are uniform over the k symbols. Cf. the n-gram priors of
// Grau-Moya et al. 2024 (arXiv 2401.14953).
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kMarkovEntry;

}  // namespace iterand
