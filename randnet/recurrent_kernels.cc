#include "randnet/recurrent_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "randnet/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/recurrent_kernels.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/math-inl.h"

// Defined once, though this file is compiled per target.
#ifndef ITERAND_RANDNET_RECURRENT_KERNELS_ONCE_
#define ITERAND_RANDNET_RECURRENT_KERNELS_ONCE_
namespace iterand {
namespace {

constexpr int kGates = 4;
constexpr int kGroupColumns = kGates * kPanel;
constexpr int kChunkRows = 24;           // rows that share a panel while it is in the first-level cache
constexpr int kCachedPanelInputs = 256;  // inputs of all panels that are to stay there: 16 KB
constexpr float kArgmaxBelow = 1e-6F;    // of the temperature
constexpr int kStridePad =
    16;  // floats between state rows, so that rows of a power-of-two size do not share cache sets

struct ScratchLayout {
  std::ptrdiff_t state_stride;  // floats from a state row to the next
  std::size_t level_floats;     // a level's states: rows * state_stride
  std::size_t cells;            // offset of the cells, [layer][row][padded hidden]
  std::size_t gates;            // offset of the gates, [row of a chunk][64]
  std::size_t logits;           // offset of the logits, [row of a chunk][padded alphabet]
  std::size_t gathered;         // offset of gathered embeddings, [row of a chunk][embedding width]
  std::size_t total;
};

// States come first: [parity][level 0 .. layers][row]. Level l is what layer l reads: h of the layer below (level 0 has
// none), then its own h of the step before; level `layers` is what the output layer reads.
ScratchLayout MakeScratchLayout(int layers, int hidden, int embedding_width, int alphabet, int rows) {
  const auto n = static_cast<std::size_t>(rows);
  const auto padded = static_cast<std::size_t>(PaddedToPanel(hidden));
  ScratchLayout layout;
  layout.state_stride = static_cast<std::ptrdiff_t>(2 * padded + kStridePad);
  layout.level_floats = n * static_cast<std::size_t>(layout.state_stride);
  layout.cells = 2 * static_cast<std::size_t>(layers + 1) * layout.level_floats;
  layout.gates = layout.cells + static_cast<std::size_t>(layers) * n * padded;
  layout.logits = layout.gates + kChunkRows * kGroupColumns;
  layout.gathered = layout.logits + kChunkRows * static_cast<std::size_t>(PaddedToPanel(alphabet));
  layout.total = layout.gathered + static_cast<std::size_t>(PaddedToPanel(kChunkRows * embedding_width));
  return layout;
}

}  // namespace
}  // namespace iterand
#endif

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = HWY_CAPPED(float, kPanel);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kVectors = kPanel / kLanes;  // vectors of a panel

// Accumulators that fit into the registers beside the operands of a step: 12 of 16 registers, or 24 of 32.
constexpr int kAccumulators = HWY_TARGET == HWY_AVX2 ? 12 : 24;

// Rows of a tile. In AVX2 a step of 3 rows x 4 vectors loads 7 operands for 12 fmas where 6 x 2 would load 8; on a core
// whose instruction decoder is shared with a sibling thread that is a fifth more speed.
constexpr int kTileRows = HWY_TARGET == HWY_AVX2 ? 3 : 6;

// Rows of the next tile, so that no tile is left with one or two rows, which load too much for what they multiply: in
// AVX2 tiles of 5 (x 2 vectors) and at last of 4 make the rest a multiple of 3.
constexpr int NextTileRows(int remaining) {
  if constexpr (kTileRows == 3) {
    if (remaining % 3 == 0 || remaining < 3) return std::min(remaining, 3);
    return remaining % 3 == 2 || remaining >= 10 ? 5 : 4;
  }
  return remaining == 7 || remaining == 8 ? 4 : std::min(remaining, kTileRows);
}

// Panels that a tile of so many rows computes at once.
constexpr int TilePanels(int rows) {
  return rows * 4 * kVectors <= kAccumulators ? 4 : rows * 2 * kVectors <= kAccumulators ? 2 : 1;
}

// What a tile reads: k below `first` inputs from each row, then `second` inputs from `gap` floats further on.
struct Inputs {
  const float* rows;
  std::ptrdiff_t stride;
  int first;
  int second;
  std::ptrdiff_t gap;
};

// Where the accumulators start: at init, or, if that is null, at the sum of two rows' table entries.
struct Start {
  const float* init;
  const float* const* x;  // one pointer a row
  const float* const* z;
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

// `count` steps from the inputs at rows[r] and the weights at `weights` on; several steps an iteration.
template <int kRows, int kColumns>
HWY_INLINE void Accumulate(const float* const (&inputs)[kRows], int count, const float* weights,
                           std::ptrdiff_t panel_stride, V (&sum)[kRows][kColumns]) {
  constexpr int kPanels = kColumns / kVectors;
  constexpr int kSteps = 4;
  const float* rows[kRows];
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) rows[r] = inputs[r];
  const float* panels[kPanels];
  HWY_UNROLL(16)
  for (int p = 0; p < kPanels; ++p) panels[p] = weights + p * panel_stride;
  const auto advance = [&](int steps) {
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) rows[r] += steps;
    HWY_UNROLL(16)
    for (int p = 0; p < kPanels; ++p) panels[p] += steps * kPanel;
  };
  for (; count >= kSteps; count -= kSteps) {
    HWY_UNROLL(kSteps)
    for (int k = 0; k < kSteps; ++k) AccumulateStep(rows, panels, k, sum);
    advance(kSteps);
  }
  for (; count > 0; --count) {
    AccumulateStep(rows, panels, 0, sum);
    advance(1);
  }
}

// One tile: kRows rows times kPanels panels.
template <int kRows, int kPanels, bool kFromTables>
HWY_INLINE void Tile(const Inputs& inputs, const float* weights, std::ptrdiff_t panel_stride, const Start& start,
                     std::ptrdiff_t column, float* out, std::ptrdiff_t out_stride) {
  const D d;
  constexpr int kColumns = kPanels * kVectors;
  V sum[kRows][kColumns];
  if constexpr (kFromTables) {
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(16)
      for (int j = 0; j < kColumns; ++j) {
        sum[r][j] =
            hn::Add(hn::Load(d, start.x[r] + column + j * kLanes), hn::Load(d, start.z[r] + column + j * kLanes));
      }
    }
  } else {
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) {
      const V init = hn::Load(d, start.init + column + j * kLanes);
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; ++r) sum[r][j] = init;
    }
  }
  const float* rows[kRows];
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) rows[r] = inputs.rows + r * inputs.stride;
  Accumulate(rows, inputs.first, weights, panel_stride, sum);
  if (inputs.second != 0) {
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; ++r) rows[r] += inputs.gap;
    Accumulate(rows, inputs.second, weights + inputs.first * kPanel, panel_stride, sum);
  }
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(16)
    for (int j = 0; j < kColumns; ++j) hn::Store(sum[r][j], d, out + column + r * out_stride + j * kLanes);
  }
}

// kRows rows times the panels [panel, panel_end). A function of its own, so that the compiler keeps the accumulators in
// registers.
template <int kRows, bool kFromTables>
HWY_NOINLINE void TilePanelsOf(int panel, int panel_end, const Inputs& inputs, const float* weights,
                               std::ptrdiff_t panel_stride, const Start& start, float* out, std::ptrdiff_t out_stride) {
  constexpr int kPanels = TilePanels(kRows);
  for (; panel + kPanels <= panel_end; panel += kPanels) {
    Tile<kRows, kPanels, kFromTables>(inputs, weights + panel * panel_stride, panel_stride, start,
                                      static_cast<std::ptrdiff_t>(panel) * kPanel, out, out_stride);
  }
  if constexpr (kPanels > 1) {
    for (; panel < panel_end; ++panel) {
      Tile<kRows, 1, kFromTables>(inputs, weights + panel * panel_stride, panel_stride, start,
                                  static_cast<std::ptrdiff_t>(panel) * kPanel, out, out_stride);
    }
  }
}

// All rows times all panels: out[row][panel * 16 + output]. Panels are taken so few at a time that they stay in the
// first-level cache while the rows pass.
template <bool kFromTables>
HWY_INLINE void Multiply(int row_count, int panels, const Inputs& all_inputs, const float* weights,
                         std::ptrdiff_t panel_stride, const Start& all_start, float* all_out,
                         std::ptrdiff_t out_stride) {
  const int depth = all_inputs.first + all_inputs.second;
  const int step = row_count <= 12 ? panels : std::max(kCachedPanelInputs / depth, TilePanels(3));
  for (int panel = 0; panel < panels; panel += step) {
    const int panel_end = std::min(panel + step, panels);
    Inputs inputs = all_inputs;
    Start start = all_start;
    float* out = all_out;
    for (int remaining = row_count; remaining > 0;) {
      const int count = NextTileRows(remaining);
      switch (count) {
        case 1:
          TilePanelsOf<1, kFromTables>(panel, panel_end, inputs, weights, panel_stride, start, out, out_stride);
          break;
        case 2:
          TilePanelsOf<2, kFromTables>(panel, panel_end, inputs, weights, panel_stride, start, out, out_stride);
          break;
        case 3:
          TilePanelsOf<3, kFromTables>(panel, panel_end, inputs, weights, panel_stride, start, out, out_stride);
          break;
        case 4:
          TilePanelsOf<4, kFromTables>(panel, panel_end, inputs, weights, panel_stride, start, out, out_stride);
          break;
        case 5:
          TilePanelsOf<5, kFromTables>(panel, panel_end, inputs, weights, panel_stride, start, out, out_stride);
          break;
        default:
          TilePanelsOf<6, kFromTables>(panel, panel_end, inputs, weights, panel_stride, start, out, out_stride);
          break;
      }
      remaining -= count;
      inputs.rows += count * inputs.stride;
      out += count * out_stride;
      if constexpr (kFromTables) {
        start.x += count;
        start.z += count;
      }
    }
  }
}

// Makes the table rows of `count` <= kChunkRows symbols that have none. A function of its own, since it is called
// rarely.
HWY_NOINLINE void MakeTableRows(const RecurrentNet& net, const Symbol* symbols, int count, EmbeddingTable& table,
                                float* gathered) {
  const int width = net.embedding_width;
  const int panels = net.padded_hidden() / kPanel * kGates;
  const std::ptrdiff_t columns = static_cast<std::ptrdiff_t>(panels) * kPanel;
  for (int i = 0; i < count; ++i) {
    std::copy_n(net.embedding + static_cast<std::ptrdiff_t>(symbols[i]) * width, width, gathered + i * width);
    table.slot[symbols[i]] = table.used + static_cast<std::uint32_t>(i);
  }
  float* const rows = table.rows + static_cast<std::ptrdiff_t>(table.used) * columns;
  Multiply<false>(count, panels, {gathered, width, width, 0, 0}, table.weights, net.layer[0].panel_stride,
                  {table.init, nullptr, nullptr}, rows, columns);
  table.used += static_cast<std::uint32_t>(count);
}

// Makes the missing table rows of all symbols of a block's first `length` columns.
void MakeTableRows(const RecurrentNet& net, BlockView symbols, int length, EmbeddingTable& table, float* gathered) {
  Symbol missing[kChunkRows];
  int count = 0;
  const auto flush = [&] {
    MakeTableRows(net, missing, count, table, gathered);
    count = 0;
  };
  for (int r = 0; r < symbols.rows(); ++r) {
    const Symbol* row = symbols.row(r);
    for (int t = 0; t < length; ++t) {
      if (HWY_LIKELY(table.slot[row[t]] != EmbeddingTable::kNone)) continue;
      table.slot[row[t]] = 0;  // noted; its slot follows
      missing[count++] = row[t];
      if (count == kChunkRows) flush();
    }
  }
  flush();
}

// The cell of randnet/lstm.h for one group of 16 units of `rows` rows. gates is [row][i, f, g, o][16]; cells and both
// outputs have their own strides. Two passes: each is a short chain of dependent operations, so that several rows are
// in flight.
HWY_NOINLINE void LstmCells(int rows, const float* HWY_RESTRICT gates, float* HWY_RESTRICT cells,
                            std::ptrdiff_t cell_stride, float* HWY_RESTRICT above, float* HWY_RESTRICT own,
                            std::ptrdiff_t state_stride) {
  const D d;
  const V one = hn::Set(d, 1.0F);
  for (int r = 0; r < rows; ++r) {
    for (int u = 0; u < kPanel; u += kLanes) {
      const float* gate = gates + r * kGroupColumns + u;
      float* cell = cells + r * cell_stride + u;
      const V p = hn::Add(one, vmath::GateExp<-1>(d, hn::Load(d, gate)));
      const V s = hn::Add(one, vmath::GateExp<-1>(d, hn::Load(d, gate + kPanel)));
      const V eg = vmath::GateExp<-2>(d, hn::Load(d, gate + 2 * kPanel));
      const V pq = hn::Mul(p, hn::Add(one, eg));
      const V numerator = hn::MulAdd(hn::Load(d, cell), pq, hn::Mul(hn::Sub(one, eg), s));
      hn::Store(hn::Div(numerator, hn::Mul(pq, s)), d, cell);
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int u = 0; u < kPanel; u += kLanes) {
      const V eo = vmath::GateExp<-1>(d, hn::Load(d, gates + r * kGroupColumns + 3 * kPanel + u));
      const V ec = vmath::GateExp<-2>(d, hn::Load(d, cells + r * cell_stride + u));
      const V h = hn::Div(hn::Sub(one, ec), hn::Mul(hn::Add(one, eo), hn::Add(one, ec)));
      hn::Store(h, d, above + r * state_stride + u);
      hn::Store(h, d, own + r * state_stride + u);
    }
  }
}

// The lowest index of the largest of `padded` logits; the padding is the lowest float.
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

// Draws a symbol at a temperature; logits are overwritten. See randnet/lstm.h.
HWY_INLINE Symbol Draw(float* HWY_RESTRICT logits, int alphabet, int padded, float temperature, Rng& rng) {
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
  for (int v = 0; v < kVectors; ++v) column[v] = hn::Zero(d);
  for (int n = 0; n < padded; n += kPanel) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      float* at = logits + n + v * kLanes;
      V weight = vmath::GateExp<1>(d, hn::Mul(hn::Sub(hn::Load(d, at), top), scale));
      if (HWY_UNLIKELY(n + kPanel > alphabet)) {
        const int valid = std::clamp(alphabet - n - v * kLanes, 0, kLanes);
        weight = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(valid)), weight);
      }
      hn::Store(weight, d, at);
      column[v] = hn::Add(column[v], weight);
    }
  }
  HWY_ALIGN float sums[kPanel];
  for (int v = 0; v < kVectors; ++v) hn::Store(column[v], d, sums + v * kLanes);
  float total = 0.0F;
  for (const float sum : sums) total += sum;
  float u = total * rng.Uniform();
  const int columns = std::min(kPanel, alphabet);
  int j = 0;
  while (j + 1 < columns && !(u < sums[j])) u -= sums[j++];
  float running = 0.0F;
  int last = j;
  for (int n = j; n < alphabet; n += kPanel) {
    running += logits[n];
    last = n;
    if (u < running) break;
  }
  return static_cast<Symbol>(last);
}

void RunLstm(RecurrentNet& net, BlockView input, int start, std::span<Rng> rngs, MutableBlockView out, float* scratch,
             float* all_logits) {
  const int rows = out.rows();
  const int padded = net.padded_hidden();
  const int padded_alphabet = net.padded_alphabet();
  const int groups = padded / kPanel;
  const std::ptrdiff_t columns = static_cast<std::ptrdiff_t>(groups) * kGroupColumns;
  const ScratchLayout layout = MakeScratchLayout(net.layers, net.hidden, net.embedding_width, net.alphabet, rows);
  std::fill_n(scratch, layout.gates, 0.0F);
  float* const gates = scratch + layout.gates;
  float* const logits = scratch + layout.logits;
  const auto level = [&](int parity, int l) {
    return scratch + static_cast<std::size_t>(parity * (net.layers + 1) + l) * layout.level_floats;
  };
  float* const gathered = scratch + layout.gathered;
  const bool unpadded = net.hidden == padded;
  MakeTableRows(net, input, out.length() - 1, net.z, gathered);
  MakeTableRows(net, out, std::min(start, out.length() - 1), net.x, gathered);
  const auto table_row = [columns](const EmbeddingTable& table, Symbol symbol) {
    return table.rows + static_cast<std::ptrdiff_t>(table.slot[symbol]) * columns;
  };
  const auto prefetch_row = [columns](const float* row) {
    for (std::ptrdiff_t j = 0; j < columns; j += kPanel) hwy::Prefetch(row + j);
  };

  const float* x_rows[kChunkRows];
  const float* z_rows[kChunkRows];
  for (int t = 0; t + 1 < out.length(); ++t) {
    const int parity = t & 1;
    for (int l = 0; l < net.layers; ++l) {
      const RecurrentNet::Layer& layer = net.layer[l];
      const std::ptrdiff_t own_offset = l == 0 ? 0 : padded;
      float* const read = level(parity, l);
      float* const above = level(parity, l + 1);
      float* const own = level(1 - parity, l) + own_offset;
      float* const cells =
          scratch + layout.cells +
          static_cast<std::size_t>(l) * static_cast<std::size_t>(rows) * static_cast<std::size_t>(padded);
      Inputs inputs{nullptr, layout.state_stride, net.hidden, net.hidden, padded};
      if (l == 0) {
        inputs.second = 0;
      } else if (unpadded) {  // both parts are one
        inputs.first = 2 * net.hidden;
        inputs.second = 0;
      }
      for (int group = 0; group < groups; ++group) {
        const float* const weights = layer.weights + group * kGates * layer.panel_stride;
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(group) * kPanel;
        for (int first = 0; first < rows; first += kChunkRows) {
          const int chunk = std::min(kChunkRows, rows - first);
          const std::ptrdiff_t state_row = first * layout.state_stride;
          inputs.rows = read + state_row;
          if (l == 0) {
            for (int r = 0; r < chunk; ++r) {
              x_rows[r] = table_row(net.x, out.row(first + r)[t]) + group * kGroupColumns;
              z_rows[r] = table_row(net.z, input.row(first + r)[t]) + group * kGroupColumns;
            }
            Multiply<true>(chunk, kGates, inputs, weights, layer.panel_stride, {nullptr, x_rows, z_rows}, gates,
                           kGroupColumns);
          } else {
            Multiply<false>(chunk, kGates, inputs, weights, layer.panel_stride,
                            {layer.bias + group * kGroupColumns, nullptr, nullptr}, gates, kGroupColumns);
          }
          LstmCells(chunk, gates, cells + static_cast<std::ptrdiff_t>(first) * padded + offset, padded,
                    above + state_row + offset, own + state_row + offset, layout.state_stride);
        }
      }
    }
    // The table rows of the next step: z's is known already, x's once the symbol is chosen.
    if (t + 2 < out.length()) {
      for (int r = 0; r < rows; ++r) prefetch_row(table_row(net.z, input.row(r)[t + 1]));
    }
    if (t + 1 < start) continue;
    const float* const top = level(parity, net.layers);
    for (int first = 0; first < rows; first += kChunkRows) {
      const int chunk = std::min(kChunkRows, rows - first);
      const Inputs inputs{top + first * layout.state_stride, layout.state_stride, net.hidden, 0, 0};
      Multiply<false>(chunk, padded_alphabet / kPanel, inputs, net.output_weights,
                      static_cast<std::ptrdiff_t>(net.hidden) * kPanel, {net.output_bias, nullptr, nullptr}, logits,
                      padded_alphabet);
      for (int r = 0; r < chunk; ++r) {
        float* row_logits = logits + static_cast<std::ptrdiff_t>(r) * padded_alphabet;
        if (all_logits != nullptr) all_logits = std::copy_n(row_logits, net.alphabet, all_logits);
        const Symbol symbol = net.temperature < kArgmaxBelow
                                  ? Argmax(row_logits, padded_alphabet)
                                  : Draw(row_logits, net.alphabet, padded_alphabet, net.temperature,
                                         rngs[static_cast<std::size_t>(first + r)]);
        if (HWY_UNLIKELY(net.x.slot[symbol] == EmbeddingTable::kNone)) {
          MakeTableRows(net, &symbol, 1, net.x, gathered);
        } else {
          prefetch_row(table_row(net.x, symbol));
        }
        out.row(first + r)[t + 1] = symbol;
      }
    }
  }
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(RunLstm);

void RunLstm(RecurrentNet& net, BlockView input, int start, std::span<Rng> rngs, MutableBlockView out, float* scratch,
             float* logits) {
  HWY_DYNAMIC_DISPATCH(RunLstm)(net, input, start, rngs, out, scratch, logits);
}

std::size_t RecurrentScratchFloats(int layers, int hidden, int embedding_width, int alphabet, int rows) {
  return MakeScratchLayout(layers, hidden, embedding_width, alphabet, rows).total;
}

}  // namespace iterand
#endif  // HWY_ONCE
