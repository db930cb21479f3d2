// Uniform noise: every token independent and uniform over the alphabet. The raw material of every chain, and the
// ablation source of Bloem 2025 (arXiv 2506.20057): a learner cannot do better than log2(alphabet) bits per token.
//
// The family draws symbols of an alphabet of 2^b from the fields of 32-bit words: of b up to 8 from their bytes, else
// from their halves, the lowest first; a symbol is the upper b bits of its field. Each row begins with a new word.
// Other alphabets are drawn as by FillNoise (randnet/base/noise.h).
#pragma once

#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kUniformEntry;

}  // namespace iterand
