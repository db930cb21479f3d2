// Random finite-state transducers (Mealy machines) that rewrite a row: what pushes structure through a chain of
// programs.
//
// A program draws its number of states S, of input classes C and of output symbols K, and a share `copy`. Each symbol
// of the alphabet is put into a uniformly drawn class; K distinct symbols can be written. Each pair (state, class) has
// a transition: a uniformly drawn next state, and an output: with probability `copy` the symbol that was read, else a
// uniformly drawn one of the K. A row begins in state 0, reads the input row from left to right and writes one symbol
// for each one read.
//
// K is lowered to the alphabet's size. With C >= the alphabet's size classes may still coincide.
// Cf. Mealy 1955, "A method for synthesizing sequential circuits".
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kTransducerEntry;

}  // namespace iterand
