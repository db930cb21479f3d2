#include "randnet/networks/reservoir_kernels.h"

#include <cstddef>

#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/networks/reservoir_kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

constexpr int kHalf = kReservoirRows / 2;
using D = HWY_CAPPED(float, kHalf);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));

// kRows rows, kHalf or twice that.
template <int kRows>
HWY_INLINE void Step(const ReservoirNet& net, const Symbol* z, const float* HWY_RESTRICT state,
                     float* HWY_RESTRICT next, float* HWY_RESTRICT logits) {
  const D d;
  constexpr int kVectors = kRows / kLanes;
  const float* embedding[kRows];
  for (int r = 0; r < kRows; ++r) embedding[r] = net.embedding + static_cast<std::ptrdiff_t>(z[r]) * net.width;
  // Inputs first, for all units, so that no vector is read right after its scalars were written.
  for (int u = 0; u < net.width; ++u) {
    for (int r = 0; r < kRows; ++r) next[u * kReservoirRows + r] = embedding[r][u];
  }
  const std::uint32_t* source = net.sources;
  const float* weight = net.weights;
  for (int u = 0; u < net.width; ++u) {
    float* const at = next + static_cast<std::ptrdiff_t>(u) * kReservoirRows;
    V sum[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[v] = hn::Load(d, at + v * kLanes);
    for (int k = 0; k < net.connections; ++k) {
      const float* const from = state + static_cast<std::ptrdiff_t>(*source++) * kReservoirRows;
      const V w = hn::Set(d, *weight++);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) sum[v] = hn::MulAdd(w, hn::Load(d, from + v * kLanes), sum[v]);
    }
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) hn::Store(vmath::Tanh(d, sum[v]), d, at + v * kLanes);
  }
  // Four logits at a time, so that a state is read once for all of them.
  for (int first = 0; first < net.emitted; first += 4) {
    const int count = net.emitted - first < 4 ? net.emitted - first : 4;
    const float* w[4];
    for (int i = 0; i < 4; ++i) {
      w[i] = net.output_weights + static_cast<std::ptrdiff_t>(first + (i < count ? i : 0)) * net.width;
    }
    V sum[4][kVectors];
    for (auto& row : sum) {
      for (V& s : row) s = hn::Zero(d);
    }
    for (int u = 0; u < net.width; ++u) {
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        const V h = hn::Load(d, next + static_cast<std::ptrdiff_t>(u) * kReservoirRows + v * kLanes);
        HWY_UNROLL(4)
        for (int i = 0; i < 4; ++i) sum[i][v] = hn::MulAdd(hn::Set(d, w[i][u]), h, sum[i][v]);
      }
    }
    for (int i = 0; i < count; ++i) {
      for (int v = 0; v < kVectors; ++v) {
        hn::Store(sum[i][v], d, logits + static_cast<std::ptrdiff_t>(first + i) * kReservoirRows + v * kLanes);
      }
    }
  }
}

}  // namespace

void ReservoirStep(const ReservoirNet& net, bool wide, const Symbol* z, const float* state, float* next,
                   float* logits) {
  if (wide) {
    Step<kReservoirRows>(net, z, state, next, logits);
  } else {
    Step<kHalf>(net, z, state, next, logits);
  }
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(ReservoirStep);

void ReservoirStep(const ReservoirNet& net, bool wide, const Symbol* z, const float* state, float* next,
                   float* logits) {
  HWY_DYNAMIC_DISPATCH(ReservoirStep)(net, wide, z, state, next, logits);
}

}  // namespace iterand
#endif  // HWY_ONCE
