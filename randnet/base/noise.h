// Rows of noise and constant rows: the material that programs read before other programs have written anything.
#pragma once

#include <span>

#include "randnet/base/rng.h"
#include "randnet/block.h"

namespace iterand {

// Fills `out` with independent uniform symbols: floor(u * alphabet / 2^32) for one 32-bit word u of the generator per
// symbol.
void FillNoise(Rng& rng, int alphabet, std::span<Symbol> out);

// Fills `out` with one uniform symbol, drawn by one call of Rng::Below.
void FillConstant(Rng& rng, int alphabet, std::span<Symbol> out);

}  // namespace iterand
