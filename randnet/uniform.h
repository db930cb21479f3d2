// Uniform noise: every token independent and uniform over the alphabet. The raw material of every chain, and the
// ablation source of Bloem 2025 (arXiv 2506.20057): a learner cannot do better than log2(alphabet) bits a token.
#pragma once

#include <span>

#include "randnet/family.h"

namespace iterand {

// Fills with independent uniform symbols: floor(u * alphabet / 2^32), one 32-bit word u of the generator a symbol.
void FillNoise(Rng& rng, int alphabet, std::span<Symbol> out);

extern const FamilyEntry kUniformEntry;

}  // namespace iterand
