#include "randnet/networks/transformer_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "randnet/base/matrix.h"
#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/networks/transformer_kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

constexpr int kSums = matrix::kPanel;
using D = HWY_CAPPED(float, kSums);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kVectors = kSums / kLanes;

// The sixteen partial sums of a row.
struct PartialSums {
  V sum[kVectors];
  HWY_INLINE PartialSums() {
    for (V& s : sum) s = hn::Zero(D());
  }
  HWY_INLINE float Total() const {
    HWY_ALIGN float sums[kSums];
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[v], D(), sums + v * kLanes);
    float total = sums[0];
    for (int j = 1; j < kSums; ++j) total += sums[j];
    return total;
  }
};

}  // namespace

void AddAndNormalise(const float* added, std::ptrdiff_t added_stride, int rows, int width, float* values,
                     std::ptrdiff_t stride) {
  const D d;
  const auto count = static_cast<float>(width);
  for (int r = 0; r < rows; ++r, added += added_stride, values += stride) {
    PartialSums sums;
    for (int n = 0; n < width; n += kSums) {
      for (int v = 0; v < kVectors; ++v) {
        float* const at = values + n + v * kLanes;
        const V x = hn::Add(hn::Load(d, at), hn::Load(d, added + n + v * kLanes));
        hn::Store(x, d, at);
        sums.sum[v] = hn::Add(sums.sum[v], x);
      }
    }
    const V mean = hn::Set(d, sums.Total() / count);
    PartialSums squares;
    for (int n = 0; n < width; n += kSums) {
      for (int v = 0; v < kVectors; ++v) {
        float* const at = values + n + v * kLanes;
        const V x = hn::Sub(hn::Load(d, at), mean);
        hn::Store(x, d, at);
        squares.sum[v] = hn::MulAdd(x, x, squares.sum[v]);
      }
    }
    const V inverse = hn::Set(d, 1.0F / std::sqrt(squares.Total() / count + 1e-5F));
    for (int n = 0; n < width; n += kLanes) hn::Store(hn::Mul(hn::Load(d, values + n), inverse), d, values + n);
  }
}

float AttentionWeights(float* scores, int count, int padded, float scale) {
  const D d;
  const int used = matrix::Padded(count);
  std::fill(scores + count, scores + used, std::numeric_limits<float>::lowest());
  V top = hn::Load(d, scores);
  for (int j = kLanes; j < used; j += kLanes) top = hn::Max(top, hn::Load(d, scores + j));
  top = hn::MaxOfLanes(d, top);
  const V factor = hn::Set(d, scale);
  PartialSums sums;
  for (int j = 0; j < used; j += kSums) {
    for (int v = 0; v < kVectors; ++v) {
      float* const at = scores + j + v * kLanes;
      V weight = vmath::GateExp<1>(d, hn::Mul(hn::Sub(hn::Load(d, at), top), factor));
      const int valid = std::clamp(count - j - v * kLanes, 0, kLanes);
      weight = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(valid)), weight);
      hn::Store(weight, d, at);
      sums.sum[v] = hn::Add(sums.sum[v], weight);
    }
  }
  std::fill(scores + used, scores + padded, 0.0F);
  return 1.0F / sums.Total();
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(AddAndNormalise);
HWY_EXPORT(AttentionWeights);

void AddAndNormalise(const float* added, std::ptrdiff_t added_stride, int rows, int width, float* values,
                     std::ptrdiff_t stride) {
  HWY_DYNAMIC_DISPATCH(AddAndNormalise)(added, added_stride, rows, width, values, stride);
}

float AttentionWeights(float* scores, int count, int padded, float scale) {
  return HWY_DYNAMIC_DISPATCH(AttentionWeights)(scores, count, padded, scale);
}

}  // namespace iterand
#endif  // HWY_ONCE
