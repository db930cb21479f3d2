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
using D4 = HWY_CAPPED(float, 4);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));

// Vectors of sums that fit into the registers beside the operands of a step.
constexpr int kSums = HWY_TARGET == HWY_AVX2 ? 12 : 24;

// next = the embeddings of z, [unit][kRows]: 4 rows x 4 units at a time.
template <int kRows>
HWY_INLINE void Embed(const ReservoirNet& net, const Symbol* z, float* HWY_RESTRICT next) {
  const D4 d;
  for (int row = 0; row < kRows; row += 4) {
    const float* from[4];
    for (int r = 0; r < 4; ++r) from[r] = net.embedding + static_cast<std::ptrdiff_t>(z[row + r]) * net.width;
    float* to = next + row;
    for (int u = 0; u < net.width; u += 4, to += static_cast<std::ptrdiff_t>(4) * kRows) {
      const auto a = hn::LoadU(d, from[0] + u);
      const auto b = hn::LoadU(d, from[1] + u);
      const auto c = hn::LoadU(d, from[2] + u);
      const auto e = hn::LoadU(d, from[3] + u);
      const auto low_ab = hn::InterleaveLower(d, a, b);
      const auto low_ce = hn::InterleaveLower(d, c, e);
      const auto high_ab = hn::InterleaveUpper(d, a, b);
      const auto high_ce = hn::InterleaveUpper(d, c, e);
      hn::Store(hn::ConcatLowerLower(d, low_ce, low_ab), d, to);
      hn::Store(hn::ConcatUpperUpper(d, low_ce, low_ab), d, to + kRows);
      hn::Store(hn::ConcatLowerLower(d, high_ce, high_ab), d, to + 2 * kRows);
      hn::Store(hn::ConcatUpperUpper(d, high_ce, high_ab), d, to + 3 * kRows);
    }
  }
}

// sum = chain(sum; w, state of `source`) for one connection of one unit.
template <int kVectors>
HWY_INLINE void Connect(const float* HWY_RESTRICT state, std::uint16_t source, V w, V (&sum)[kVectors]) {
  constexpr int kFloats = kVectors * kLanes / kReservoirScale;
  const float* const from = state + static_cast<std::ptrdiff_t>(source) * kFloats;
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) sum[v] = hn::MulAdd(w, hn::Load(D(), from + v * kLanes), sum[v]);
}

// What tanh is applied to, of kUnits units of a block. A load of four weights and their broadcasts leave more of the
// load ports to the states than four loads would.
template <int kUnits, int kVectors>
HWY_INLINE void Units(int connections, const std::uint16_t* HWY_RESTRICT sources, const float* HWY_RESTRICT weights,
                      const float* HWY_RESTRICT state, float* HWY_RESTRICT next) {
  const D d;
  V sum[kUnits][kVectors];
  HWY_UNROLL(8)
  for (int u = 0; u < kUnits; ++u) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[u][v] = hn::Load(d, next + (u * kVectors + v) * kLanes);
  }
  for (int k = 0; k < connections; ++k, sources += kReservoirUnits, weights += kReservoirUnits) {
    HWY_UNROLL(2)
    for (int u = 0; u < kUnits; u += 4) {
      const V four = hn::LoadDup128(d, weights + u);
      Connect(state, sources[u], hn::Broadcast<0>(four), sum[u]);
      Connect(state, sources[u + 1], hn::Broadcast<1>(four), sum[u + 1]);
      Connect(state, sources[u + 2], hn::Broadcast<2>(four), sum[u + 2]);
      Connect(state, sources[u + 3], hn::Broadcast<3>(four), sum[u + 3]);
    }
  }
  HWY_UNROLL(8)
  for (int u = 0; u < kUnits; ++u) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[u][v], d, next + (u * kVectors + v) * kLanes);
  }
}

// The logits of kCount outputs of a tile of `tile` outputs.
template <int kCount, int kVectors>
HWY_INLINE void Outputs(int width, int tile, const float* HWY_RESTRICT weights, const float* HWY_RESTRICT states,
                        float* HWY_RESTRICT logits) {
  const D d;
  V sum[kCount][kVectors];
  HWY_UNROLL(16)
  for (int i = 0; i < kCount; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
  }
  for (int u = 0; u < width; ++u, weights += tile, states += kVectors * kLanes) {
    V h[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) h[v] = hn::Load(d, states + v * kLanes);
    HWY_UNROLL(16)
    for (int i = 0; i < kCount; ++i) {
      const V w = hn::Set(d, weights[i]);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(w, h[v], sum[i][v]);
    }
  }
  HWY_UNROLL(16)
  for (int i = 0; i < kCount; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[i][v], d, logits + (i * kVectors + v) * kLanes);
  }
}

// The first `count` outputs of a tile, at most kSums / kVectors.
template <int kVectors, int kCount = 1>
HWY_INLINE void SomeOutputs(int count, int width, int tile, const float* weights, const float* states, float* logits) {
  if constexpr (kCount * kVectors < kSums && kCount < kReservoirOutputs) {
    if (count > kCount) return SomeOutputs<kVectors, kCount + 1>(count, width, tile, weights, states, logits);
  }
  Outputs<kCount, kVectors>(width, tile, weights, states, logits);
}

// kRows rows, kHalf or twice that.
template <int kRows>
HWY_INLINE void Step(const ReservoirNet& net, const Symbol* z, const float* HWY_RESTRICT state,
                     float* HWY_RESTRICT next, float* HWY_RESTRICT logits) {
  constexpr int kVectors = kRows / kLanes;
  constexpr int kUnits = kVectors * kReservoirUnits <= kSums ? kReservoirUnits : kReservoirUnits / 2;
  // All units first, so that no vector is read right after its parts were written.
  Embed<kRows>(net, z, next);
  const std::ptrdiff_t block = static_cast<std::ptrdiff_t>(net.connections) * kReservoirUnits;
  const std::uint16_t* sources = net.packed_sources;
  const float* weights = net.packed_weights;
  for (int first = 0; first < net.width; first += kReservoirUnits, sources += block, weights += block) {
    for (int u = 0; u < kReservoirUnits; u += kUnits) {
      Units<kUnits, kVectors>(net.connections, sources + u, weights + u, state,
                              next + static_cast<std::ptrdiff_t>(first + u) * kRows);
    }
  }
  // A pass of its own takes the widest vectors, and its chains do not wait for those of the sums.
  vmath::TanhArray(next, static_cast<std::size_t>(ReservoirPadded(net.width)) * kRows);
  constexpr int kMost = kSums / kVectors;
  for (int t = 0; t < ReservoirTiles(net.emitted); ++t) {
    const ReservoirTile tile = ReservoirTileAt(net.emitted, t);
    const float* const from = net.packed_outputs + static_cast<std::ptrdiff_t>(tile.first) * net.width;
    float* const to = logits + static_cast<std::ptrdiff_t>(tile.first) * kRows;
    const int count = tile.count <= kMost ? tile.count : (tile.count + 1) / 2;
    for (int i = 0; i < tile.count; i += count) {
      SomeOutputs<kVectors>(tile.count - i < count ? tile.count - i : count, net.width, tile.count, from + i, next,
                            to + static_cast<std::ptrdiff_t>(i) * kRows);
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
