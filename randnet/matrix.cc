#include "randnet/matrix.h"

#include <algorithm>
#include <limits>

#include "randnet/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/matrix.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/math-inl.h"

// Defined once, though this file is compiled per target.
#ifndef ITERAND_RANDNET_MATRIX_ONCE_
#define ITERAND_RANDNET_MATRIX_ONCE_
namespace iterand::matrix {
namespace {

constexpr int kTileRows = 6;  // most rows of a tile
constexpr int kChunkRows =
    96;  // rows that stay in the second-level cache while panel after panel is multiplied with them
constexpr float kArgmaxBelow = 1e-6F;  // of the temperature

// Rows of the next tile: a tile must have many accumulators to hide the latency of fma, so none is left with one or
// two.
constexpr int NextTileRows(int remaining) {
  if (remaining == 7 || remaining == 8) return 4;
  return std::min(remaining, kTileRows);
}

}  // namespace
}  // namespace iterand::matrix
#endif

HWY_BEFORE_NAMESPACE();
namespace iterand::matrix::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace vmath = ::iterand::HWY_NAMESPACE::vmath;
namespace {

using D = HWY_CAPPED(float, kPanel);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kVectors = kPanel / kLanes;  // vectors of a panel

// Accumulators that fit into the registers beside the operands of a step.
constexpr int kAccumulators = HWY_TARGET == HWY_AVX2 ? 12 : 24;

// Panels that a tile of so many rows computes at once.
constexpr int TilePanels(int rows) {
  return rows * 4 * kVectors <= kAccumulators ? 4 : rows * 2 * kVectors <= kAccumulators ? 2 : 1;
}

// One tile: kRows rows times kPanels panels. A function of its own, so that the compiler keeps the accumulators in
// registers.
template <int kRows, int kPanels>
HWY_NOINLINE void Tile(const float* in, std::ptrdiff_t in_stride, int inputs, const float* HWY_RESTRICT weights,
                       std::ptrdiff_t panel_stride, const float* bias, float* HWY_RESTRICT out,
                       std::ptrdiff_t out_stride) {
  const D d;
  constexpr int kColumns = kPanels * kVectors;
  V sum[kRows][kColumns];
  HWY_UNROLL(16)
  for (int j = 0; j < kColumns; ++j) {
    const V start = bias == nullptr ? hn::Zero(d) : hn::Load(d, bias + j * kLanes);
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) sum[r][j] = start;
  }
  const float* rows[kRows];
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) rows[r] = in + r * in_stride;
  for (int k = 0; k < inputs; ++k) {
    V weight[kColumns];
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) {
      weight[j] = hn::Load(d, weights + (j / kVectors) * panel_stride + (j % kVectors) * kLanes);
    }
    weights += kPanel;
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      const V input = hn::Set(d, rows[r][k]);
      HWY_UNROLL(16)
      for (int j = 0; j < kColumns; ++j) sum[r][j] = hn::MulAdd(input, weight[j], sum[r][j]);
    }
  }
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) hn::Store(sum[r][j], d, out + r * out_stride + j * kLanes);
  }
}

// A tile at panel `panel`; tiles that take several panels at once skip those that they have done.
template <int kRows>
HWY_INLINE void TileRowsOf(int panel, int panels, const float* in, std::ptrdiff_t in_stride, int inputs,
                           const float* weights, std::ptrdiff_t panel_stride, const float* bias, float* out,
                           std::ptrdiff_t out_stride) {
  constexpr int kPanels = TilePanels(kRows);
  if (panel / kPanels * kPanels + kPanels <= panels) {
    if (panel % kPanels == 0) {
      Tile<kRows, kPanels>(in, in_stride, inputs, weights, panel_stride, bias, out, out_stride);
    }
  } else {
    Tile<kRows, 1>(in, in_stride, inputs, weights, panel_stride, bias, out, out_stride);
  }
}

}  // namespace

void Multiply(const float* in, std::ptrdiff_t in_stride, int rows, int inputs, const float* weights,
              std::ptrdiff_t panel_stride, int outputs, const float* bias, float* out, std::ptrdiff_t out_stride) {
  const int panels = Padded(outputs) / kPanel;
  for (int first = 0; first < rows; first += kChunkRows) {
    const int last = std::min(rows, first + kChunkRows);
    for (int panel = 0; panel < panels; ++panel) {
      const std::ptrdiff_t column = static_cast<std::ptrdiff_t>(panel) * kPanel;
      const float* const w = weights + panel * panel_stride;
      const float* const b = bias == nullptr ? nullptr : bias + column;
      for (int r = first; r < last;) {
        const int count = NextTileRows(last - r);
        const float* const x = in + r * in_stride;
        float* const y = out + r * out_stride + column;
        switch (count) {
          case 1:
            TileRowsOf<1>(panel, panels, x, in_stride, inputs, w, panel_stride, b, y, out_stride);
            break;
          case 2:
            TileRowsOf<2>(panel, panels, x, in_stride, inputs, w, panel_stride, b, y, out_stride);
            break;
          case 3:
            TileRowsOf<3>(panel, panels, x, in_stride, inputs, w, panel_stride, b, y, out_stride);
            break;
          case 4:
            TileRowsOf<4>(panel, panels, x, in_stride, inputs, w, panel_stride, b, y, out_stride);
            break;
          case 5:
            TileRowsOf<5>(panel, panels, x, in_stride, inputs, w, panel_stride, b, y, out_stride);
            break;
          default:
            TileRowsOf<6>(panel, panels, x, in_stride, inputs, w, panel_stride, b, y, out_stride);
            break;
        }
        r += count;
      }
    }
  }
}

void Tanh(float* values, std::size_t count) {
  const D d;
  for (std::size_t i = 0; i < count; i += kLanes) hn::Store(vmath::Tanh(d, hn::Load(d, values + i)), d, values + i);
}

void Relu(float* values, std::size_t count) {
  const D d;
  for (std::size_t i = 0; i < count; i += kLanes) {
    hn::Store(hn::Max(hn::Load(d, values + i), hn::Zero(d)), d, values + i);
  }
}

// The largest of `padded` logits, in every lane.
HWY_INLINE V Largest(const float* HWY_RESTRICT logits, int padded) {
  const D d;
  V top = hn::Load(d, logits);
  for (int n = kLanes; n < padded; n += kLanes) top = hn::Max(top, hn::Load(d, logits + n));
  return hn::MaxOfLanes(d, top);
}

Symbol Choose(float* logits, int symbols, float temperature, Rng& rng) {
  const D d;
  const int padded = Padded(symbols);
  std::fill(logits + symbols, logits + padded, std::numeric_limits<float>::lowest());
  const V top = Largest(logits, padded);
  if (temperature < kArgmaxBelow) {
    for (int n = 0; n < padded; n += kLanes) {
      const auto equal = hn::Eq(hn::Load(d, logits + n), top);
      const std::intptr_t lane = hn::FindFirstTrue(d, equal);
      if (lane >= 0) return static_cast<Symbol>(n + lane);
    }
    return 0;  // not reached unless every logit is NaN
  }
  const V scale = hn::Set(d, 1.0F / temperature);
  V column[kVectors];
  for (int v = 0; v < kVectors; ++v) column[v] = hn::Zero(d);
  for (int n = 0; n < padded; n += kPanel) {
    for (int v = 0; v < kVectors; ++v) {
      float* const at = logits + n + v * kLanes;
      V weight = vmath::GateExp<1>(d, hn::Mul(hn::Sub(hn::Load(d, at), top), scale));
      const int valid = std::clamp(symbols - n - v * kLanes, 0, kLanes);
      weight = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(valid)), weight);
      hn::Store(weight, d, at);
      column[v] = hn::Add(column[v], weight);
    }
  }
  HWY_ALIGN float sums[kPanel];
  for (int v = 0; v < kVectors; ++v) hn::Store(column[v], d, sums + v * kLanes);
  float total = 0.0F;
  for (const float sum : sums) total += sum;
  float u = total * rng.Uniform();
  const int columns = std::min(kPanel, symbols);
  int j = 0;
  while (j + 1 < columns && !(u < sums[j])) u -= sums[j++];
  float running = 0.0F;
  int last = j;
  for (int n = j; n < symbols; n += kPanel) {
    running += logits[n];
    last = n;
    if (u < running) break;
  }
  return static_cast<Symbol>(last);
}

}  // namespace iterand::matrix::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand::matrix {

HWY_EXPORT(Multiply);
HWY_EXPORT(Tanh);
HWY_EXPORT(Relu);
HWY_EXPORT(Choose);

void Multiply(const float* in, std::ptrdiff_t in_stride, int rows, int inputs, const float* weights,
              std::ptrdiff_t panel_stride, int outputs, const float* bias, float* out, std::ptrdiff_t out_stride) {
  HWY_DYNAMIC_DISPATCH(Multiply)(in, in_stride, rows, inputs, weights, panel_stride, outputs, bias, out, out_stride);
}

void Tanh(float* values, std::size_t count) { HWY_DYNAMIC_DISPATCH(Tanh)(values, count); }

void Relu(float* values, std::size_t count) { HWY_DYNAMIC_DISPATCH(Relu)(values, count); }

Symbol Choose(float* logits, int symbols, float temperature, Rng& rng) {
  return HWY_DYNAMIC_DISPATCH(Choose)(logits, symbols, temperature, rng);
}

void Linear::Reserve(int inputs, int outputs) {
  const std::size_t panel = static_cast<std::size_t>(inputs) * kPanel;
  weights_.reserve(panel * static_cast<std::size_t>(Padded(outputs) / kPanel));
  bias_.reserve(static_cast<std::size_t>(Padded(outputs)));
  draws_.reserve(panel);
}

void Linear::Draw(Rng& rng, int inputs, int outputs, float scale, float bias_scale) {
  inputs_ = inputs;
  outputs_ = outputs;
  const int padded = Padded(outputs);
  const std::size_t panel = static_cast<std::size_t>(inputs) * kPanel;
  bias_.assign(static_cast<std::size_t>(padded), 0.0F);
  if (bias_scale != 0.0F) rng.FillNormal(bias_scale, {bias_.data(), static_cast<std::size_t>(outputs)});
  weights_.resize(panel * static_cast<std::size_t>(padded / kPanel));
  float* to = weights_.data();
  for (int first = 0; first < outputs; first += kPanel, to += panel) {
    const auto units = static_cast<std::size_t>(std::min(kPanel, outputs - first));
    if (units == kPanel) {
      rng.FillNormal(scale, {to, panel});
      continue;
    }
    draws_.resize(static_cast<std::size_t>(inputs) * units);
    rng.FillNormal(scale, draws_);
    std::fill_n(to, panel, 0.0F);
    for (std::size_t k = 0; k < static_cast<std::size_t>(inputs); ++k) {
      std::copy_n(draws_.data() + k * units, units, to + k * kPanel);
    }
  }
}

}  // namespace iterand::matrix
#endif  // HWY_ONCE
