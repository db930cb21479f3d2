#include "randnet/networks/nca_kernels.h"

#include <algorithm>
#include <limits>

#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/networks/nca_kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math.h"

// Defined once, though this file is compiled per target.
#ifndef ITERAND_RANDNET_NCA_KERNELS_ONCE_
#define ITERAND_RANDNET_NCA_KERNELS_ONCE_
namespace iterand {
namespace {

constexpr float kArgmaxBelow = 1e-6F;  // of the temperature
constexpr float kCandidate = -20.0F;  // logits this far below the largest, in units of the temperature, are never drawn

// The colour of one cell that has several candidates.
Symbol DrawColour(const float* logits, int colours, float largest, float inverse, Rng& rng) {
  float total = 0.0F;
  for (int c = 0; c < colours; ++c) {
    const float distance = (logits[c * kNcaCells] - largest) * inverse;
    if (distance >= kCandidate) total += math::GateExp(distance);
  }
  const float u = total * rng.Uniform();
  float running = 0.0F;
  int last = 0;
  for (int c = 0; c < colours; ++c) {
    const float distance = (logits[c * kNcaCells] - largest) * inverse;
    if (!(distance >= kCandidate)) continue;
    running += math::GateExp(distance);
    last = c;
    if (u < running) break;
  }
  return static_cast<Symbol>(last);
}

}  // namespace
}  // namespace iterand
#endif

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = HWY_CAPPED(float, kNcaCells);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kVectors = kNcaCells / kLanes;
using D4 = HWY_CAPPED(float, 4);  // four features of a cell

// kOut outputs of kNcaCells cells: out[o][cell] = chain(bias_o; w_o, in[.][cell]).
template <int kOut, bool kRelu>
HWY_INLINE void Outputs(const float* HWY_RESTRICT in, int inputs, const float* HWY_RESTRICT weights, const float* bias,
                        float* HWY_RESTRICT out) {
  const D d;
  V sum[kOut][kVectors];
  HWY_UNROLL(4)
  for (int o = 0; o < kOut; ++o) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[o][v] = hn::Set(d, bias[o]);
  }
  for (int k = 0; k < inputs; ++k) {
    V x[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) x[v] = hn::Load(d, in + k * kNcaCells + v * kLanes);
    HWY_UNROLL(4)
    for (int o = 0; o < kOut; ++o) {
      const V w = hn::Set(d, weights[static_cast<std::ptrdiff_t>(o) * inputs + k]);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) sum[o][v] = hn::MulAdd(w, x[v], sum[o][v]);
    }
  }
  HWY_UNROLL(4)
  for (int o = 0; o < kOut; ++o) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      const V y = kRelu ? hn::Max(sum[o][v], hn::Zero(d)) : sum[o][v];
      hn::Store(y, d, out + o * kNcaCells + v * kLanes);
    }
  }
}

template <bool kRelu>
HWY_INLINE void Layer(const float* in, int inputs, const float* weights, const float* bias, int outputs, float* out) {
  int o = 0;
  for (; o + 4 <= outputs; o += 4) {
    Outputs<4, kRelu>(in, inputs, weights + static_cast<std::ptrdiff_t>(o) * inputs, bias + o, out + o * kNcaCells);
  }
  weights += static_cast<std::ptrdiff_t>(o) * inputs;
  switch (outputs - o) {
    case 1:
      Outputs<1, kRelu>(in, inputs, weights, bias + o, out + o * kNcaCells);
      break;
    case 2:
      Outputs<2, kRelu>(in, inputs, weights, bias + o, out + o * kNcaCells);
      break;
    case 3:
      Outputs<3, kRelu>(in, inputs, weights, bias + o, out + o * kNcaCells);
      break;
    default:
      break;
  }
}

// The features of one cell: its neighbours' weights added up, position after position, for four features at a time.
template <int kPositions>
HWY_INLINE void Perceive(const NcaNet& net, const Symbol* corner, float* HWY_RESTRICT features) {
  const D4 d4;
  const int padded = net.padded_features();
  const std::ptrdiff_t table = static_cast<std::ptrdiff_t>(net.colours) * padded;
  std::ptrdiff_t at[kPositions];
  HWY_UNROLL(9)
  for (int p = 0; p < kPositions; ++p) {
    at[p] = p * table + static_cast<std::ptrdiff_t>(corner[(p / 3) * net.stride() + p % 3]) * padded;
  }
  for (int f = 0; f < padded; f += 4) {
    auto sum = hn::Load(d4, net.feature_bias + f);
    HWY_UNROLL(9)
    for (int p = 0; p < kPositions; ++p) sum = hn::Add(sum, hn::Load(d4, net.neighbour_weights + at[p] + f));
    hn::Store(sum, d4, features + f * kNcaCells);
  }
}

}  // namespace

void NcaStep(const NcaNet& net, const Symbol* grid, Symbol* next, float* logits, Rng& rng, float* all_logits) {
  const D d;
  const hn::RebindToSigned<D> di;
  HWY_ALIGN float cells[kNcaMaxFeatures * kNcaCells];  // [group of four features][cell][4]
  HWY_ALIGN float features[kNcaMaxFeatures * kNcaCells];
  HWY_ALIGN float hidden[kNcaMaxHidden * kNcaCells];
  HWY_ALIGN std::int32_t chosen[kNcaCells];
  const int padded = net.padded_features();
  const int count = net.height * net.width;
  const std::ptrdiff_t stride = net.stride();
  const float inverse = net.temperature < kArgmaxBelow ? 0.0F : 1.0F / net.temperature;
  std::fill_n(cells, padded * kNcaCells, 0.0F);

  int y = 0;  // of the cell that is read next
  int x = 0;
  for (int first = 0; first < count; first += kNcaCells) {
    const int active = std::min(kNcaCells, count - first);
    const int first_y = y;
    const int first_x = x;
    for (int c = 0; c < active; ++c) {
      // The corner of the neighbourhood is one step up and left of the cell, which the border has shifted by as much.
      const Symbol* const corner = grid + y * stride + x;
      if (net.height == 1) {
        Perceive<3>(net, corner, cells + 4 * c);
      } else {
        Perceive<9>(net, corner, cells + 4 * c);
      }
      if (++x == net.width) {
        x = 0;
        ++y;
      }
    }
    for (int f = 0; f < padded; f += 4) {
      for (int v = 0; v < kVectors; ++v) {
        V a, b, e, g;
        hn::LoadInterleaved4(d, cells + (f * kNcaCells) + 4 * v * kLanes, a, b, e, g);
        float* const to = features + f * kNcaCells + v * kLanes;
        hn::Store(a, d, to);
        hn::Store(b, d, to + kNcaCells);
        hn::Store(e, d, to + 2 * kNcaCells);
        hn::Store(g, d, to + 3 * kNcaCells);
      }
    }
    Layer<true>(features, net.features, net.hidden_weights, net.hidden_bias, net.hidden, hidden);
    Layer<false>(hidden, net.hidden, net.output_weights, net.output_bias, net.colours, logits);
    if (net.identity_bias != 0.0F) {
      int own_y = first_y;
      int own_x = first_x;
      for (int c = 0; c < active; ++c) {
        logits[grid[net.origin() + own_y * stride + own_x] * kNcaCells + c] += net.identity_bias;
        if (++own_x == net.width) {
          own_x = 0;
          ++own_y;
        }
      }
    }
    if (all_logits != nullptr) {
      for (int c = 0; c < active; ++c) {
        for (int colour = 0; colour < net.colours; ++colour) *all_logits++ = logits[colour * kNcaCells + c];
      }
    }
    V best[kVectors];
    V second[kVectors];
    hn::Vec<decltype(di)> index[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      best[v] = hn::Load(d, logits + v * kLanes);
      second[v] = hn::Set(d, std::numeric_limits<float>::lowest());
      index[v] = hn::Zero(di);
    }
    for (int colour = 1; colour < net.colours; ++colour) {
      const auto number = hn::Set(di, colour);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        const V logit = hn::Load(d, logits + colour * kNcaCells + v * kLanes);
        const auto greater = hn::Gt(logit, best[v]);
        second[v] = hn::Max(second[v], hn::Min(best[v], logit));
        best[v] = hn::Max(best[v], logit);
        index[v] = hn::IfThenElse(hn::RebindMask(di, greater), number, index[v]);
      }
    }
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) hn::Store(index[v], di, chosen + v * kLanes);
    if (inverse != 0.0F) {
      const V scale = hn::Set(d, inverse);
      const V limit = hn::Set(d, kCandidate);
      bool draw = false;
      for (int v = 0; v < kVectors; ++v) {
        draw |= !hn::AllFalse(d, hn::Ge(hn::Mul(hn::Sub(second[v], best[v]), scale), limit));
      }
      if (HWY_UNLIKELY(draw)) {
        HWY_ALIGN float largest[kNcaCells];
        HWY_ALIGN float other[kNcaCells];
        for (int v = 0; v < kVectors; ++v) {
          hn::Store(best[v], d, largest + v * kLanes);
          hn::Store(second[v], d, other + v * kLanes);
        }
        for (int c = 0; c < active; ++c) {
          if ((other[c] - largest[c]) * inverse >= kCandidate) {
            chosen[c] = DrawColour(logits + c, net.colours, largest[c], inverse, rng);
          }
        }
      }
    }
    int to_y = first_y;
    int to_x = first_x;
    Symbol* to = next + net.origin() + to_y * stride + to_x;
    for (int c = 0; c < active; ++c) {
      *to++ = static_cast<Symbol>(chosen[c]);
      if (++to_x == net.width) {
        to_x = 0;
        ++to_y;
        to = next + net.origin() + to_y * stride;
      }
    }
  }
  ::iterand::NcaWrap(net, next);
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(NcaStep);

void NcaStep(const NcaNet& net, const Symbol* grid, Symbol* next, float* logits, Rng& rng, float* all_logits) {
  HWY_DYNAMIC_DISPATCH(NcaStep)(net, grid, next, logits, rng, all_logits);
}

void NcaWrap(const NcaNet& net, Symbol* grid) {
  const std::ptrdiff_t stride = net.stride();
  for (int y = 0; y < net.height; ++y) {
    Symbol* const row = grid + (y + net.border_rows()) * stride;
    row[0] = row[net.width];
    row[net.width + 1] = row[1];
  }
  if (net.height > 1) {
    std::copy_n(grid + net.height * stride, stride, grid);
    std::copy_n(grid + stride, stride, grid + (net.height + 1) * stride);
  }
}

}  // namespace iterand
#endif  // HWY_ONCE
