// Sums along vectors for random transformers (randnet/networks/transformer.h), in a fixed order of their own.
//
// A sum over n is S_0 + S_1 + ... + S_15, added in this order, where S_j is the sum of the terms with n = j mod 16, n
// ascending, started at 0. Sixteen partial sums are whole vectors on every target, so the order does not depend on the
// vector width.
#pragma once

#include <cstddef>

namespace iterand {

// values[r] = LayerNorm(values[r] + added[r]), `width` floats per row, a multiple of 16; rows are `stride` and
// added_stride floats apart and aligned. LayerNorm(v): mean = sum v_n / width; d_n = v_n - mean; variance = sum of
// d_n^2 (each added by fma) / width; d_n * (1 / sqrt(variance + 1e-5)).
void AddAndNormalise(const float* added, std::ptrdiff_t added_stride, int rows, int width, float* values,
                     std::ptrdiff_t stride);

// Makes attention weights of the first `count` scores: w_j = math::GateExp((score_j - largest) * scale); scores[count
// .. padded) become 0. Returns 1 / sum of w_j. padded is a multiple of 16 and at least count, which is positive; scores
// are aligned.
float AttentionWeights(float* scores, int count, int padded, float scale);

}  // namespace iterand
