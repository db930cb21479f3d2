// Constant rows: one uniformly drawn token, repeated. Every row has its own.
#pragma once

#include <span>

#include "randnet/family.h"

namespace iterand {

// Fills with one uniform symbol, by one call of Below.
void FillConstant(Rng& rng, int alphabet, std::span<Symbol> out);

extern const FamilyEntry kConstantEntry;

}  // namespace iterand
