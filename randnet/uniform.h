// Uniform noise: every token independent and uniform over the alphabet. The raw material of every chain, and the
// ablation source of Bloem 2025 (arXiv 2506.20057): a learner cannot do better than log2(alphabet) bits a token.
//
// The family draws symbols of an alphabet of 2^b from the fields of 32-bit words: of b up to 8 from their bytes, else
// from their halves, the lowest first; a symbol is the upper b bits of its field. Each row begins with a new word.
// Other alphabets are drawn as by FillNoise.
#pragma once

#include <span>

#include "randnet/family.h"

namespace iterand {

// Fills with independent uniform symbols: floor(u * alphabet / 2^32), one 32-bit word u of the generator a symbol.
void FillNoise(Rng& rng, int alphabet, std::span<Symbol> out);

extern const FamilyEntry kUniformEntry;

}  // namespace iterand
