#include "randnet/networks/nca_kernels.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/networks/nca_kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"

// Defined once, though this file is compiled per target.
#ifndef ITERAND_RANDNET_NCA_KERNELS_ONCE_
#define ITERAND_RANDNET_NCA_KERNELS_ONCE_
namespace iterand {
namespace {

constexpr float kArgmaxBelow = 1e-6F;  // of the temperature
constexpr float kCandidate = -20.0F;  // logits this far below the largest, in units of the temperature, are never drawn

}  // namespace
}  // namespace iterand
#endif

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = HWY_CAPPED(float, kNcaCells);
using V = hn::Vec<D>;
using DI = hn::RebindToSigned<D>;
using VI = hn::Vec<DI>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kVectors = kNcaCells / kLanes;
using D4 = HWY_CAPPED(float, 4);  // four features of a cell

// Outputs whose sums fit into the registers beside the operands of a step.
constexpr int kMostOutputs = (HWY_TARGET == HWY_AVX2 ? 12 : HWY_TARGET == HWY_AVX3 ? 16 : 24) / kVectors;

// kOut outputs of a tile of `tile` outputs: out[o][cell] = chain(bias_o; w_o, in[.][cell]).
template <int kOut, bool kRelu>
HWY_INLINE void Outputs(const float* HWY_RESTRICT in, int inputs, const float* HWY_RESTRICT weights, int tile,
                        const float* bias, float* HWY_RESTRICT out) {
  const D d;
  V sum[kOut][kVectors];
  HWY_UNROLL(16)
  for (int o = 0; o < kOut; ++o) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[o][v] = hn::Set(d, bias[o]);
  }
  for (int k = 0; k < inputs; ++k, in += kNcaCells, weights += tile) {
    V x[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) x[v] = hn::Load(d, in + v * kLanes);
    HWY_UNROLL(16)
    for (int o = 0; o < kOut; ++o) {
      const V w = hn::Set(d, weights[o]);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) sum[o][v] = hn::MulAdd(w, x[v], sum[o][v]);
    }
  }
  HWY_UNROLL(16)
  for (int o = 0; o < kOut; ++o) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      const V y = kRelu ? hn::Max(sum[o][v], hn::Zero(d)) : sum[o][v];
      hn::Store(y, d, out + o * kNcaCells + v * kLanes);
    }
  }
}

// `count` outputs of a tile, at most kMostOutputs.
template <bool kRelu, int kOut = 1>
HWY_INLINE void SomeOutputs(int count, const float* in, int inputs, const float* weights, int tile, const float* bias,
                            float* out) {
  if constexpr (kOut < kMostOutputs) {
    if (count > kOut) return SomeOutputs<kRelu, kOut + 1>(count, in, inputs, weights, tile, bias, out);
  }
  Outputs<kOut, kRelu>(in, inputs, weights, tile, bias, out);
}

// All outputs of packed weights. A tile of more than kMostOutputs is computed in parts of about equal size.
template <bool kRelu>
HWY_NOINLINE void Layer(const float* in, int inputs, const float* weights, const float* bias, int outputs, float* out) {
  for (int t = 0; t < NcaTiles(outputs); ++t) {
    const int tile = NcaTileAt(outputs, t).count;
    int parts = (tile + kMostOutputs - 1) / kMostOutputs;
    for (int o = 0; parts > 0; --parts) {
      const int count = (tile - o) / parts;
      SomeOutputs<kRelu>(count, in, inputs, weights + o, tile, bias + o, out + o * kNcaCells);
      o += count;
    }
    weights += static_cast<std::ptrdiff_t>(tile) * inputs;
    bias += tile;
    out += tile * kNcaCells;
  }
}

// ---- Features: a cell's neighbours' weights added up, position after position. ----

// Vectors that hold the weights of one position and feature for all colours, if these are few.
int Tables(const NcaNet& net) { return net.tables == nullptr ? 0 : (net.colours + kLanes - 1) / kLanes; }

// All features of the cells from `first` on: a table look-up for every position and feature.
template <int kPositions, int kTables>
HWY_INLINE void LookUp(const NcaNet& net, const Symbol* HWY_RESTRICT planes, int first, float* HWY_RESTRICT features) {
  const D d;
  const DI di;
  const hn::Rebind<Symbol, DI> du;
  const std::ptrdiff_t plane = NcaPlane(net);
  using Indices = decltype(hn::IndicesFromVec(d, hn::Zero(di)));
  for (int v = 0; v < kVectors; ++v) {
    VI colour[kPositions];
    Indices indices[kPositions];
    HWY_UNROLL(9)
    for (int p = 0; p < kPositions; ++p) {
      const Symbol* const at = planes + p % 3 * plane + first + p / 3 * net.width + v * kLanes;
      colour[p] = hn::PromoteTo(di, hn::LoadU(du, at));
      indices[p] = hn::IndicesFromVec(d, hn::And(colour[p], hn::Set(di, kLanes - 1)));
    }
    const float* table = net.tables;
    for (int f = 0; f < net.features; ++f) {
      V sum = hn::Set(d, net.feature_bias[f]);
      HWY_UNROLL(9)
      for (int p = 0; p < kPositions; ++p, table += kNcaTable) {
        V weight = hn::TableLookupLanes(hn::Load(d, table), indices[p]);
        if constexpr (kTables == 2) {
          const V more = hn::TableLookupLanes(hn::Load(d, table + kLanes), indices[p]);
          weight = hn::IfThenElse(hn::RebindMask(d, hn::Gt(colour[p], hn::Set(di, kLanes - 1))), more, weight);
        }
        sum = hn::Add(sum, weight);
      }
      hn::Store(sum, d, features + f * kNcaCells + v * kLanes);
    }
  }
}

// The features of one cell, four at a time.
template <int kPositions>
HWY_INLINE void Perceive(const NcaNet& net, const Symbol* HWY_RESTRICT cell, std::ptrdiff_t plane,
                         float* HWY_RESTRICT features) {
  const D4 d4;
  const int padded = net.padded_features();
  const std::ptrdiff_t table = static_cast<std::ptrdiff_t>(net.colours) * padded;
  std::ptrdiff_t at[kPositions];
  HWY_UNROLL(9)
  for (int p = 0; p < kPositions; ++p) {
    at[p] = p * table + static_cast<std::ptrdiff_t>(cell[p % 3 * plane + p / 3 * net.width]) * padded;
  }
  for (int f = 0; f < padded; f += 4) {
    auto sum = hn::Load(d4, net.feature_bias + f);
    HWY_UNROLL(9)
    for (int p = 0; p < kPositions; ++p) sum = hn::Add(sum, hn::Load(d4, net.neighbour_weights + at[p] + f));
    hn::Store(sum, d4, features + f * kNcaCells);
  }
}

// All features of `active` cells from `first` on, where colours are many.
HWY_INLINE void PerceiveEach(const NcaNet& net, const Symbol* planes, int first, int active,
                             float* HWY_RESTRICT features) {
  const D d;
  HWY_ALIGN float cells[kNcaMaxFeatures * kNcaCells];  // [group of four features][cell][4]
  const int padded = net.padded_features();
  // Sums of cells that are not there are not used, but must be numbers that cost no more than others.
  if (active < kNcaCells) std::fill_n(cells, padded * kNcaCells, 0.0F);
  for (int c = 0; c < active; ++c) {
    if (net.height == 1) {
      Perceive<3>(net, planes + first + c, NcaPlane(net), cells + 4 * c);
    } else {
      Perceive<9>(net, planes + first + c, NcaPlane(net), cells + 4 * c);
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
}

HWY_INLINE void Features(const NcaNet& net, const Symbol* planes, int first, int active, float* features) {
  const int tables = Tables(net);
  if (tables == 1 && net.height > 1) return LookUp<9, 1>(net, planes, first, features);
  if (tables == 1) return LookUp<3, 1>(net, planes, first, features);
  if (tables == 2 && net.height > 1) return LookUp<9, 2>(net, planes, first, features);
  if (tables == 2) return LookUp<3, 2>(net, planes, first, features);
  PerceiveEach(net, planes, first, active, features);
}

// ---- The next colours. ----

// The two largest logits of each cell and the lowest colour of the largest.
struct Largest {
  V best[kVectors];
  V second[kVectors];
  VI index[kVectors];
};

HWY_INLINE Largest FindLargest(const float* HWY_RESTRICT logits, int colours) {
  const D d;
  const DI di;
  Largest found;
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) {
    found.best[v] = hn::Load(d, logits + v * kLanes);
    found.second[v] = hn::Set(d, std::numeric_limits<float>::lowest());
    found.index[v] = hn::Zero(di);
  }
  for (int colour = 1; colour < colours; ++colour) {
    const auto number = hn::Set(di, colour);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      const V logit = hn::Load(d, logits + colour * kNcaCells + v * kLanes);
      const auto greater = hn::Gt(logit, found.best[v]);
      found.second[v] = hn::Max(found.second[v], hn::Min(found.best[v], logit));
      found.best[v] = hn::Max(found.best[v], logit);
      found.index[v] = hn::IfThenElse(hn::RebindMask(di, greater), number, found.index[v]);
    }
  }
  return found;
}

// Candidates of a cell and their weights.
struct Candidates {
  HWY_ALIGN float weight[kNcaMaxColours + kNcaCells];
  Symbol colour[kNcaMaxColours + 1];
};

// The colour of one cell that has several candidates, which are listed without branches: these could not be predicted.
HWY_INLINE Symbol DrawColour(const float* HWY_RESTRICT logits, int colours, float largest, float inverse, Rng& rng,
                             Candidates& found) {
  const D d;
  int count = 0;
  for (int c = 0; c < colours; ++c) {
    const float distance = (logits[c * kNcaCells] - largest) * inverse;
    found.weight[count] = distance;
    found.colour[count] = static_cast<Symbol>(c);
    count += distance >= kCandidate ? 1 : 0;
  }
  std::fill_n(found.weight + count, kLanes - 1, 0.0F);
  for (int i = 0; i < count; i += kLanes) {
    hn::Store(vmath::GateExp<1>(d, hn::Load(d, found.weight + i)), d, found.weight + i);
  }
  float total = 0.0F;
  for (int i = 0; i < count; ++i) total += found.weight[i];
  const float u = total * rng.Uniform();
  float running = 0.0F;
  int chosen = 0;
  for (int i = 0; i + 1 < count; ++i) {
    running += found.weight[i];
    chosen += u < running ? 0 : 1;
  }
  return found.colour[chosen];
}

// Draws the colours of those of the cells that have several candidates, and writes them to `chosen`.
HWY_NOINLINE void DrawColours(const Largest& found, const float* logits, int colours, int active, float inverse,
                              Rng& rng, Symbol* chosen) {
  const D d;
  HWY_ALIGN float largest[kNcaCells];
  HWY_ALIGN float other[kNcaCells];
  Candidates candidates;
  for (int v = 0; v < kVectors; ++v) {
    hn::Store(found.best[v], d, largest + v * kLanes);
    hn::Store(found.second[v], d, other + v * kLanes);
  }
  for (int c = 0; c < active; ++c) {
    if ((other[c] - largest[c]) * inverse >= kCandidate) {
      chosen[c] = DrawColour(logits + c, colours, largest[c], inverse, rng, candidates);
    }
  }
}

// Writes the next colours of kNcaCells cells, of which `active` are used.
HWY_INLINE void Choose(const float* logits, int colours, int active, float inverse, Rng& rng,
                       Symbol* HWY_RESTRICT chosen) {
  const D d;
  const hn::Rebind<Symbol, DI> du;
  const Largest found = FindLargest(logits, colours);
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) hn::StoreU(hn::DemoteTo(du, found.index[v]), du, chosen + v * kLanes);
  if (inverse == 0.0F) return;
  const V scale = hn::Set(d, inverse);
  const V limit = hn::Set(d, kCandidate);
  bool draw = false;
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) {
    draw |= !hn::AllFalse(d, hn::Ge(hn::Mul(hn::Sub(found.second[v], found.best[v]), scale), limit));
  }
  if (HWY_UNLIKELY(draw)) DrawColours(found, logits, colours, active, inverse, rng, chosen);
}

}  // namespace

void NcaStep(const NcaNet& net, const Symbol* grid, Symbol* next, const NcaScratch& scratch, Rng& rng,
             float* all_logits) {
  HWY_ALIGN float features[kNcaMaxFeatures * kNcaCells];
  HWY_ALIGN float hidden[kNcaMaxHidden * kNcaCells];
  float* const logits = scratch.logits;
  const int count = net.height * net.width;
  const float inverse = net.temperature < kArgmaxBelow ? 0.0F : 1.0F / net.temperature;
  ::iterand::NcaSpread(net, grid, scratch.planes);
  // The cells themselves, without a border.
  const Symbol* const own = scratch.planes + NcaPlane(net) + net.border_rows() * net.width;
  for (int first = 0; first < count; first += kNcaCells) {
    const int active = std::min(kNcaCells, count - first);
    Features(net, scratch.planes, first, active, features);
    Layer<true>(features, net.features, net.packed_hidden, net.hidden_bias, net.hidden, hidden);
    Layer<false>(hidden, net.hidden, net.packed_outputs, net.output_bias, net.colours, logits);
    if (net.identity_bias != 0.0F) {
      for (int c = 0; c < active; ++c) logits[own[first + c] * kNcaCells + c] += net.identity_bias;
    }
    if (all_logits != nullptr) {
      for (int c = 0; c < active; ++c) {
        for (int colour = 0; colour < net.colours; ++colour) *all_logits++ = logits[colour * kNcaCells + c];
      }
    }
    Choose(logits, net.colours, active, inverse, rng, scratch.chosen + first);
  }
  ::iterand::NcaGather(net, scratch.chosen, next);
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(NcaStep);

void NcaStep(const NcaNet& net, const Symbol* grid, Symbol* next, const NcaScratch& scratch, Rng& rng,
             float* all_logits) {
  HWY_DYNAMIC_DISPATCH(NcaStep)(net, grid, next, scratch, rng, all_logits);
}

void NcaSpread(const NcaNet& net, const Symbol* grid, Symbol* planes) {
  const int rows = net.height + 2 * net.border_rows();
  for (int shift = 0; shift < 3; ++shift, planes += NcaPlane(net)) {
    // What is copied beyond a row's end is overwritten by the next row, or is in the margin.
    for (int y = 0; y < rows; ++y) {
      const Symbol* const from = grid + y * net.stride() + shift;
      Symbol* const to = planes + static_cast<std::ptrdiff_t>(y) * net.width;
      for (int x = 0; x < net.width; x += kNcaMargin) std::memcpy(to + x, from + x, kNcaMargin * sizeof(Symbol));
    }
  }
}

void NcaGather(const NcaNet& net, const Symbol* cells, Symbol* grid) {
  for (int y = 0; y < net.height; ++y, cells += net.width) {
    Symbol* const to = grid + net.origin() + y * net.stride();
    // Four at a time, since a call takes longer than a short row.
    int x = 0;
    for (; x + 4 <= net.width; x += 4) std::memcpy(to + x, cells + x, 4 * sizeof(Symbol));
    for (; x < net.width; ++x) to[x] = cells[x];
  }
  NcaWrap(net, grid);
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
