// Products of inputs with packed panels of weights, and the choice of a symbol by its logit: the vector code that
// matrix.cc and recurrent_kernels.cc share. randnet/base/matrix.h defines the layout of the panels.
//
// Include this only from a file that Highway compiles per target (see randnet/base/simd.h), after hwy/highway.h.
//
// Why it is fast: a tile keeps 3 rows x 4 vectors of sums in registers (AVX2). That takes 7 loads for 12 fused
// multiply-adds, where one row would need a load for each. Weights are read again for every tile of rows. Rows
// therefore pass over few panels and few inputs at a time, so that these weights stay in the first-level cache (32 KB).
// Sums wait in `out` until the next inputs' turn. This changes no bit, since a chain continues from the float it had
// reached.
#if defined(ITERAND_RANDNET_PANELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ITERAND_RANDNET_PANELS_INL_H_
#undef ITERAND_RANDNET_PANELS_INL_H_
#else
#define ITERAND_RANDNET_PANELS_INL_H_
#endif

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "randnet/base/math-inl.h"
#include "randnet/base/matrix.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE::panels {
namespace hn = hwy::HWY_NAMESPACE;
using matrix::kPanel;

using D = HWY_CAPPED(float, kPanel);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kVectors = kPanel / kLanes;  // vectors of a panel

// Accumulators that fit into the registers beside the operands of a step: 12 of 16 registers, or 24 of 32.
constexpr int kAccumulators = HWY_TARGET == HWY_AVX2 ? 12 : 24;

// Rows of a tile. In AVX2 a step of 3 rows x 4 vectors loads 7 operands for 12 fmas where 6 x 2 would load 8. On a core
// that shares its instruction decoder with a sibling thread, that is a fifth more speed.
constexpr int kTileRows = HWY_TARGET == HWY_AVX2 ? 3 : 6;
constexpr int kMaxTileRows = 6;

// Panels that a tile of this many rows computes at once.
constexpr int TilePanels(int rows) {
  return rows * 4 * kVectors <= kAccumulators ? 4 : rows * 2 * kVectors <= kAccumulators ? 2 : 1;
}
constexpr int kTilePanels = TilePanels(kTileRows);

// Inputs that are multiplied before the next panels' turn: 16 KB of weights.
constexpr int kBlockInputs = 128;

// How rows are cut into tiles: `regular` rows in tiles of the usual size, then up to two tiles of other sizes. So no
// tile has only one or two rows, which would load too much for what they multiply.
struct RowSplit {
  int regular;
  int rest[2];
};

constexpr RowSplit SplitRows(int rows, int tile_rows) {
  const int over = rows % tile_rows;
  if (over == 0) return {rows, {0, 0}};
  if (rows < tile_rows) return {0, {rows, 0}};
  if (tile_rows == 3) return {rows - over - 3, {over + 3, 0}};
  if (over < 3) return {rows - over - tile_rows, {4, over + tile_rows - 4}};
  return {rows - over, {over, 0}};
}

// ---- Where the chains of a row begin: the sums of the outputs from `column` on. ----

template <int kColumns>
HWY_INLINE void LoadSums(const float* from, V (&sum)[kColumns]) {
  HWY_UNROLL(16)
  for (int j = 0; j < kColumns; ++j) sum[j] = hn::Load(D(), from + j * kLanes);
}

struct FromZero {
  template <int kColumns>
  HWY_INLINE void operator()(int /*row*/, std::ptrdiff_t /*column*/, V (&sum)[kColumns]) const {
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) sum[j] = hn::Zero(D());
  }
};

struct FromBias {
  const float* bias;
  template <int kColumns>
  HWY_INLINE void operator()(int /*row*/, std::ptrdiff_t column, V (&sum)[kColumns]) const {
    LoadSums(bias + column, sum);
  }
};

// The sum of two table entries, one pointer per row each.
struct FromTables {
  const float* const* x;
  const float* const* z;
  template <int kColumns>
  HWY_INLINE void operator()(int row, std::ptrdiff_t column, V (&sum)[kColumns]) const {
    const float* const from_z = z[row] + column;
    LoadSums(x[row] + column, sum);
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) sum[j] = hn::Add(sum[j], hn::Load(D(), from_z + j * kLanes));
  }
};

// What the inputs before gave.
struct FromSums {
  const float* sums;
  std::ptrdiff_t stride;
  template <int kColumns>
  HWY_INLINE void operator()(int row, std::ptrdiff_t column, V (&sum)[kColumns]) const {
    LoadSums(sums + row * stride + column, sum);
  }
};

// rows x inputs times panels.
struct Product {
  int rows;
  const float* in;  // row-major
  std::ptrdiff_t in_stride;
  int inputs;
  const float* weights;  // the first panel
  std::ptrdiff_t panel_stride;
  int panels;
  float* out;  // row-major, aligned to whole panels
  std::ptrdiff_t out_stride;
};

// One step of a tile: input k of every row times the k-th weights of every panel.
template <int kRows, int kColumns>
HWY_INLINE void AccumulateStep(const float* const (&rows)[kRows], const float* const (&panels)[kColumns / kVectors],
                               int k, V (&sum)[kRows][kColumns]) {
  const D d;
  if constexpr (kRows <= kColumns) {  // keep the smaller side in registers
    V input[kRows];
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) input[r] = hn::Set(d, rows[r][k]);
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) {
      const V weight = hn::Load(d, panels[j / kVectors] + k * kPanel + (j % kVectors) * kLanes);
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) sum[r][j] = hn::MulAdd(input[r], weight, sum[r][j]);
    }
  } else {
    V weight[kColumns];
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j)
      weight[j] = hn::Load(d, panels[j / kVectors] + k * kPanel + (j % kVectors) * kLanes);
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      const V input = hn::Set(d, rows[r][k]);
      HWY_UNROLL(16)
      for (int j = 0; j < kColumns; ++j) sum[r][j] = hn::MulAdd(input, weight[j], sum[r][j]);
    }
  }
}

// The rows, panels and inputs of a product that are multiplied together.
struct Part {
  int row;
  int row_end;
  int panel;
  int panel_end;
  int k;
  int steps;  // inputs
};

// A part whose rows are a multiple of kRows and whose panels one of kPanels; a panel's rows first. A function of its
// own, so that the compiler keeps the accumulators in registers.
template <int kRows, int kPanels, class Start>
HWY_NOINLINE void Tiles(const Product& product, const Part& part, const Start& start) {
  const D d;
  constexpr int kColumns = kPanels * kVectors;
  constexpr int kUnroll = 8;
  const std::ptrdiff_t in_stride = product.in_stride;
  const std::ptrdiff_t out_stride = product.out_stride;
  const std::ptrdiff_t panel_stride = product.panel_stride;
  for (int panel = part.panel; panel < part.panel_end; panel += kPanels) {
    const std::ptrdiff_t column = static_cast<std::ptrdiff_t>(panel) * kPanel;
    const float* const weights = product.weights + panel * panel_stride + static_cast<std::ptrdiff_t>(part.k) * kPanel;
    const float* in = product.in + part.row * in_stride + part.k;
    float* out = product.out + part.row * out_stride + column;
    for (int row = part.row; row < part.row_end; row += kRows) {
      V sum[kRows][kColumns];
      const float* rows[kRows];
      const float* panels[kPanels];
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) {
        rows[r] = in + r * in_stride;
        start(row + r, column, sum[r]);
      }
      HWY_UNROLL(16)
      for (int p = 0; p < kPanels; ++p) panels[p] = weights + p * panel_stride;
      const auto advance = [&](int count) {
        HWY_UNROLL(16)
        for (int r = 0; r < kRows; ++r) rows[r] += count;
        HWY_UNROLL(16)
        for (int p = 0; p < kPanels; ++p) panels[p] += count * kPanel;
      };
      int remaining = part.steps;
      for (; remaining >= kUnroll; remaining -= kUnroll) {
        HWY_UNROLL(kUnroll)
        for (int i = 0; i < kUnroll; ++i) AccumulateStep(rows, panels, i, sum);
        advance(kUnroll);
      }
      for (; remaining > 0; --remaining) {
        AccumulateStep(rows, panels, 0, sum);
        advance(1);
      }
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) {
        HWY_UNROLL(16)
        for (int j = 0; j < kColumns; ++j) hn::Store(sum[r][j], d, out + r * out_stride + j * kLanes);
      }
      in += kRows * in_stride;
      out += kRows * out_stride;
    }
  }
}

// A part whose rows are a multiple of kRows: as many panels at a time as fit, the rest one by one.
template <int kRows, class Start>
HWY_INLINE void TileRows(const Product& product, const Part& part, const Start& start) {
  constexpr int kAtOnce = TilePanels(kRows);
  const int panels = part.panel_end - part.panel;
  Part some = part;
  some.panel_end -= panels % kAtOnce;
  if (some.panel < some.panel_end) Tiles<kRows, kAtOnce>(product, some, start);
  if constexpr (kAtOnce > 1) {
    some.panel = some.panel_end;
    some.panel_end = part.panel_end;
    if (some.panel < some.panel_end) Tiles<kRows, 1>(product, some, start);
  }
}

// A part of exactly part.row_end - part.row <= kMaxTileRows rows.
template <int kRows = 1, class Start>
HWY_INLINE void OneTile(const Product& product, const Part& part, const Start& start) {
  if constexpr (kRows < kMaxTileRows) {
    if (part.row_end - part.row > kRows) return OneTile<kRows + 1>(product, part, start);
  }
  TileRows<kRows>(product, part, start);
}

// All rows, some inputs, the panels [panel, panel_end), in tiles of usually kRows rows.
template <int kRows, class Start>
HWY_INLINE void AllRows(const Product& product, int panel, int panel_end, int k, int steps, const Start& start) {
  const RowSplit split = SplitRows(product.rows, kRows);
  Part part = {0, split.regular, panel, panel_end, k, steps};
  if (split.regular > 0) TileRows<kRows>(product, part, start);
  for (const int count : split.rest) {
    part.row = part.row_end;
    part.row_end += count;
    if (count > 0) OneTile(product, part, start);
  }
}

// All rows and panels, some inputs. Panels that are too few for a tile of kTileRows rows take tiles of more rows.
template <class Start>
HWY_INLINE void AllPanels(const Product& product, int k, int steps, const Start& start) {
  const int panels = product.panels / kTilePanels * kTilePanels;
  if (panels > 0) AllRows<kTileRows>(product, 0, panels, k, steps, start);
  if (panels < product.panels) AllRows<kMaxTileRows>(product, panels, product.panels, k, steps, start);
}

// out[r][n] = chain(start(r, n); weights of output n, in[r]) for all outputs n of the panels.
template <class Start>
HWY_INLINE void Multiply(const Product& product, const Start& start) {
  // Blocks of about equal size; a product of no inputs has one of size 0.
  const int blocks = std::max((product.inputs + kBlockInputs / 2) / kBlockInputs, 1);
  int k = product.inputs / blocks;
  AllPanels(product, 0, k, start);
  for (int block = 1; block < blocks; ++block) {
    const int steps = (product.inputs - k) / (blocks - block);
    AllPanels(product, k, steps, FromSums{product.out, product.out_stride});
    k += steps;
  }
}

// ---- Choice of symbols. Logits are filled up to `padded`, a multiple of kPanel, with the lowest float. ----

// The lowest index of the largest logit.
HWY_INLINE Symbol Argmax(const float* HWY_RESTRICT logits, int padded) {
  const D d;
  const hn::RebindToSigned<D> di;
  V best[kVectors];
  hn::Vec<decltype(di)> at[kVectors];
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) {
    best[v] = hn::Load(d, logits + v * kLanes);
    at[v] = hn::Zero(di);
  }
  auto now = hn::Set(di, 1);
  const auto one = hn::Set(di, 1);
  for (int n = kPanel; n < padded; n += kPanel) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      const V value = hn::Load(d, logits + n + v * kLanes);
      at[v] = hn::IfThenElse(hn::RebindMask(di, hn::Gt(value, best[v])), now, at[v]);
      best[v] = hn::Max(best[v], value);
    }
    now = hn::Add(now, one);
  }
  V largest = best[0];
  for (int v = 1; v < kVectors; ++v) largest = hn::Max(largest, best[v]);
  largest = hn::MaxOfLanes(d, largest);
  auto index = hn::Set(di, std::numeric_limits<std::int32_t>::max());
  for (int v = 0; v < kVectors; ++v) {
    const auto lane = hn::Add(hn::ShiftLeft<4>(at[v]), hn::Iota(di, v * kLanes));
    index = hn::Min(index, hn::IfThenElse(hn::RebindMask(di, hn::Eq(best[v], largest)), lane, index));
  }
  return static_cast<Symbol>(hn::GetLane(hn::MinOfLanes(di, index)));
}

// The lanes in which a mask is true, as bits.
template <class Mask>
HWY_INLINE std::uint32_t Bits(Mask mask) {
  std::uint8_t bytes[8];
  hn::StoreMaskBits(D(), mask, bytes);
  std::uint32_t bits = bytes[0];
  if constexpr (kLanes > 8) bits |= static_cast<std::uint32_t>(bytes[1]) << 8;
  return bits;
}

// logits = weights, sums[j] = S_j, both of randnet/networks/recurrent.h.
HWY_INLINE void Weights(float* HWY_RESTRICT logits, int symbols, int padded, float temperature,
                        float* HWY_RESTRICT sums) {
  const D d;
  V column[kVectors];
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) column[v] = hn::Load(d, logits + v * kLanes);
  for (int n = kPanel; n < padded; n += kPanel) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) column[v] = hn::Max(column[v], hn::Load(d, logits + n + v * kLanes));
  }
  V top = column[0];
  for (int v = 1; v < kVectors; ++v) top = hn::Max(top, column[v]);
  top = hn::MaxOfLanes(d, top);
  const V scale = hn::Set(d, 1.0F / temperature);
  for (V& sum : column) sum = hn::Zero(d);
  for (int n = 0; n < padded; n += kPanel) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      float* at = logits + n + v * kLanes;
      V weight = vmath::GateExp<1>(d, hn::Mul(hn::Sub(hn::Load(d, at), top), scale));
      if (HWY_UNLIKELY(n + kPanel > symbols)) {
        const int valid = std::clamp(symbols - n - v * kLanes, 0, kLanes);
        weight = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(valid)), weight);
      }
      hn::Store(weight, d, at);
      column[v] = hn::Add(column[v], weight);
    }
  }
  HWY_UNROLL(4)
  for (int v = 0; v < kVectors; ++v) hn::Store(column[v], d, sums + v * kLanes);
}

// Draws one symbol at a temperature for each of at most kDrawnRows rows, as randnet/networks/recurrent.h defines it
// under "Next token"; logits are overwritten. Each step is done for all rows, without branches on what is drawn, so
// that the rows' chains of dependent additions run side by side.
constexpr int kDrawnRows = 8;
inline HWY_NOINLINE void Draw(float* logits, std::ptrdiff_t stride, int rows, int symbols, int padded,
                              float temperature, Rng* rngs, Symbol* chosen) {
  HWY_ALIGN float sums[kDrawnRows][kPanel];
  HWY_ALIGN float left[kDrawnRows][kPanel];  // of u before each S_j
  for (int r = 0; r < rows; ++r) Weights(logits + r * stride, symbols, padded, temperature, sums[r]);
  for (int r = 0; r < rows; ++r) {
    float total = 0.0F;
    for (const float sum : sums[r]) total += sum;
    left[r][0] = total * rngs[r].Uniform();
  }
  for (int r = 0; r < rows; ++r) {
    float u = left[r][0];
    for (int j = 1; j < kPanel; ++j) {
      u -= sums[r][j - 1];
      left[r][j] = u;
    }
  }
  const int last_column = std::min(kPanel, symbols) - 1;
  for (int r = 0; r < rows; ++r) {
    const D d;
    std::uint32_t found = 1U << last_column;
    HWY_UNROLL(4)
    for (int i = 0; i < kPanel; i += kLanes) {
      found |= Bits(hn::Lt(hn::Load(d, left[r] + i), hn::Load(d, sums[r] + i))) << i;
    }
    const int j = std::countr_zero(found);
    const float u = left[r][j];
    float running = 0.0F;
    int n = j;  // grows until the sum, which does not decrease, exceeds u
    for (int i = j; i < symbols; i += kPanel) {
      running += logits[r * stride + i];
      n += u < running ? 0 : kPanel;
    }
    chosen[r] = static_cast<Symbol>(n < symbols ? n : n - kPanel);
  }
}

// The next symbol of each row: Argmax below a tiny temperature, else Draw.
HWY_INLINE void Choose(float* logits, std::ptrdiff_t stride, int rows, int symbols, int padded, float temperature,
                       Rng* rngs, Symbol* chosen) {
  constexpr float kArgmaxBelow = 1e-6F;
  if (temperature < kArgmaxBelow) {
    for (int r = 0; r < rows; ++r) chosen[r] = Argmax(logits + r * stride, padded);
    return;
  }
  for (int r = 0; r < rows; r += kDrawnRows) {
    Draw(logits + r * stride, stride, std::min(kDrawnRows, rows - r), symbols, padded, temperature, rngs + r,
         chosen + r);
  }
}

}  // namespace iterand::HWY_NAMESPACE::panels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
