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

inline constexpr int kMaxHeads = 64;
inline constexpr int kAttendUnits = 4;  // panels of channels whose sums are added up together

// Rows that share panels of kAttendUnits, where one row has fewer.
constexpr int AttendTogether(int panels) { return panels >= kAttendUnits ? 1 : kAttendUnits / panels; }

// One query of each of several rows, with `heads` heads of `width` channels; heads * width is a multiple of 16, and all
// pointers are aligned. A row's cache is its keys, [head][panel of 16 slots][channel of the head][16], then its values,
// [panel of 16 channels of all heads][slot][16]. `slots` is a multiple of 16.
struct AttendedRows {
  int rows;
  int heads;
  int width;
  int keys;  // slots in use
  int slots;
  const float* query;
  std::ptrdiff_t query_stride;
  const float* caches;
  float* out;
  std::ptrdiff_t out_stride;

  std::ptrdiff_t CacheFloats() const { return std::ptrdiff_t{2} * slots * heads * width; }
};

// out = for each head, chain(0; value_j, w_j over the slots j < keys ascending) * (1 / sum of w_j), with the w of
// AttentionWeights of the scores chain(0; key_j, query). `scores` has AttendTogether(heads * width / 16) * heads *
// slots floats, aligned.
void AttendStep(const AttendedRows& rows, float scale, float* scores);

}  // namespace iterand
