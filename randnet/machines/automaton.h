// Random walks on random labelled graphs: `ndfa` of Bloem 2025 (arXiv 2506.20057, code).
//
// A program draws how many states and how many symbols it has, that many distinct symbols of the alphabet, and an edge
// probability p. Each ordered pair of states (from, to), in row-major order, has an edge with probability p, labelled
// by a uniformly drawn one of its symbols. A sequence is a walk from state 0, uniform over the out-edges, that emits
// labels. A state without out-edges emits the first symbol and returns to state 0.
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kAutomatonEntry;

}  // namespace iterand
