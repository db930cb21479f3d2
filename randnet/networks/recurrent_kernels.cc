#include "randnet/networks/recurrent_kernels.h"

#include <algorithm>
#include <type_traits>

#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/networks/recurrent_kernels.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"
#include "randnet/base/panels-inl.h"

// Defined once, though this file is compiled per target.
#ifndef ITERAND_RANDNET_RECURRENT_KERNELS_ONCE_
#define ITERAND_RANDNET_RECURRENT_KERNELS_ONCE_
namespace iterand {
namespace {

constexpr int kPanel = matrix::kPanel;
constexpr int kChunkRows = kRecurrentChunkRows;
constexpr int kSumPanels = 4;  // panels of sums that a cell update reads at once
constexpr int kSumColumns = kSumPanels * kPanel;
constexpr int kStridePad =
    16;  // floats between state rows, so that rows of a power-of-two size do not share cache sets

struct ScratchLayout {
  std::ptrdiff_t state_stride;  // floats from a state row to the next
  std::size_t level_floats;     // a level's states: rows * state_stride
  std::size_t cells;            // offset of the LSTM's cells, [layer][row][padded hidden]
  std::size_t sums;             // offset of the sums, [row of a chunk][kSumColumns]
  std::size_t logits;           // offset of the logits, [row of a chunk][padded alphabet]
  std::size_t gathered;         // offset of gathered embeddings, [row of a chunk][embedding width]
  std::size_t total;
};

// States come first: [parity][level 0 .. layers][row]. Level l is what layer l reads: h of the layer below (level 0 has
// none), then its own h of the step before; level `layers` is what the output layer reads.
ScratchLayout MakeScratchLayout(int layers, int hidden, int embedding_width, int alphabet, int rows) {
  const auto n = static_cast<std::size_t>(rows);
  const auto padded = static_cast<std::size_t>(matrix::Padded(hidden));
  ScratchLayout layout;
  layout.state_stride = static_cast<std::ptrdiff_t>(2 * padded + kStridePad);
  layout.level_floats = n * static_cast<std::size_t>(layout.state_stride);
  layout.cells = 2 * static_cast<std::size_t>(layers + 1) * layout.level_floats;
  layout.sums = layout.cells + static_cast<std::size_t>(layers) * n * padded;
  layout.logits = layout.sums + kChunkRows * kSumColumns;
  layout.gathered = layout.logits + kChunkRows * static_cast<std::size_t>(matrix::Padded(alphabet));
  layout.total = layout.gathered + static_cast<std::size_t>(matrix::Padded(kChunkRows * embedding_width));
  return layout;
}

}  // namespace
}  // namespace iterand
#endif

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using panels::D;
using panels::FromBias;
using panels::FromSums;
using panels::FromTables;
using panels::kLanes;
using panels::Product;
using panels::V;

// Makes the table rows of `count` <= kChunkRows symbols that have none. A function of its own, since it is called
// rarely.
HWY_NOINLINE void MakeTableRows(const RecurrentNet& net, const Symbol* symbols, int count, EmbeddingTable& table,
                                float* gathered) {
  const int width = net.embedding_width;
  const int panels = net.padded_hidden() / kPanel * Gates(net.cell);
  const std::ptrdiff_t stride = net.table_stride();
  for (int i = 0; i < count; ++i) {
    std::copy_n(net.embedding + static_cast<std::ptrdiff_t>(symbols[i]) * width, width, gathered + i * width);
    table.slot[symbols[i]] = table.used + static_cast<std::uint32_t>(i);
  }
  panels::Multiply({.rows = count,
                    .in = gathered,
                    .in_stride = width,
                    .inputs = width,
                    .weights = table.weights,
                    .panel_stride = net.layer[0].panel_stride,
                    .panels = panels,
                    .out = table.rows + static_cast<std::ptrdiff_t>(table.used) * stride,
                    .out_stride = stride},
                   FromBias{table.init});
  table.used += static_cast<std::uint32_t>(count);
}

// Makes the missing table rows of all symbols of a block's first `length` columns. Returns false if the computation was
// stopped.
bool MakeTableRows(const RecurrentNet& net, BlockView symbols, int length, EmbeddingTable& table, float* gathered,
                   const RunControl* stop) {
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
      if (count < kChunkRows) continue;
      if (stop != nullptr && stop->ShouldStop()) return false;  // large rows take milliseconds
      flush();
    }
  }
  flush();
  return true;
}

// One layer's update of one or more groups of units (at most Cell::kGroups) in some rows. All pointers are at the first
// group and the first row.
struct GroupStep {
  bool first_layer;  // inputs are symbols, whose products are in tables
  int rows;
  int groups;
  int hidden;
  const float* weights;
  std::ptrdiff_t panel_stride;
  const float* bias;
  const float* own_bias;
  const float* const* x;  // first layer: one table row per row
  const float* const* z;
  const float* below;      // states of the layer below; none in the first layer
  const float* own;        // h of the step before, all units
  const float* own_group;  // and of these groups
  float* above;            // where the new h goes: to the layer above,
  float* next;             // and to the next step
  std::ptrdiff_t state_stride;
  float* cells;  // LSTM: [row][padded hidden]
  std::ptrdiff_t cell_stride;
  float* sums;  // [row][kSumColumns]
};

// The product of `panels` panels from `panel` on with the states at `in`, into sums from `column` on.
HWY_INLINE Product ProductOf(const GroupStep& step, int panel, int panels, const float* in, int inputs, int column) {
  return {.rows = step.rows,
          .in = in,
          .in_stride = step.state_stride,
          .inputs = inputs,
          .weights = step.weights + panel * step.panel_stride,
          .panel_stride = step.panel_stride,
          .panels = panels,
          .out = step.sums + column,
          .out_stride = kSumColumns};
}

// sums = the chains of the first `panels` panels over all inputs of the layer.
HWY_INLINE void MultiplyAll(const GroupStep& step, int panels) {
  if (step.first_layer) {
    panels::Multiply(ProductOf(step, 0, panels, step.own, step.hidden, 0), FromTables{step.x, step.z});
  } else if (step.below + step.hidden == step.own) {  // the states of both layers are one row
    panels::Multiply(ProductOf(step, 0, panels, step.below, 2 * step.hidden, 0), FromBias{step.bias});
  } else {
    panels::Multiply(ProductOf(step, 0, panels, step.below, step.hidden, 0), FromBias{step.bias});
    Product own = ProductOf(step, 0, panels, step.own, step.hidden, 0);
    own.weights += static_cast<std::ptrdiff_t>(step.hidden) * kPanel;
    panels::Multiply(own, FromSums{own.out, own.out_stride});
  }
}

// Where the new h of a row goes: to both readers. Copies of a step's pointers, so that no store can change them.
struct States {
  explicit States(const GroupStep& step) : above(step.above), next(step.next), stride(step.state_stride) {}
  HWY_INLINE void Store(int unit, V h) const {
    hn::Store(h, D(), above + unit);
    hn::Store(h, D(), next + unit);
  }
  HWY_INLINE void NextRow() {
    above += stride;
    next += stride;
  }

  float* HWY_RESTRICT above;
  float* HWY_RESTRICT next;
  std::ptrdiff_t stride;
};

// Update is a function of its own in each cell, so that the compiler allocates registers for it alone.
struct LstmCell {
  static constexpr int kGates = Gates(Cell::kLstm);
  static constexpr int kGroups = 1;

  static HWY_INLINE void Multiply(const GroupStep& step) { MultiplyAll(step, kGates); }

  // Two passes: each is a short chain of dependent operations, so that several rows are in flight.
  static HWY_NOINLINE void Update(const GroupStep& step) {
    const D d;
    const V one = hn::Set(d, 1.0F);
    const int rows = step.rows;
    const float* gate = step.sums;
    float* cell = step.cells;
    for (int r = 0; r < rows; ++r, gate += kSumColumns, cell += step.cell_stride) {
      HWY_UNROLL(4)
      for (int u = 0; u < kPanel; u += kLanes) {
        const V p = hn::Add(one, vmath::GateExp<-1>(d, hn::Load(d, gate + u)));
        const V s = hn::Add(one, vmath::GateExp<-1>(d, hn::Load(d, gate + kPanel + u)));
        const V eg = vmath::GateExp<-2>(d, hn::Load(d, gate + 2 * kPanel + u));
        const V pq = hn::Mul(p, hn::Add(one, eg));
        const V numerator = hn::MulAdd(hn::Load(d, cell + u), pq, hn::Mul(hn::Sub(one, eg), s));
        hn::Store(hn::Div(numerator, hn::Mul(pq, s)), d, cell + u);
      }
    }
    gate = step.sums + 3 * kPanel;
    cell = step.cells;
    States states(step);
    for (int r = 0; r < rows; ++r, gate += kSumColumns, cell += step.cell_stride, states.NextRow()) {
      HWY_UNROLL(4)
      for (int u = 0; u < kPanel; u += kLanes) {
        const V eo = vmath::GateExp<-1>(d, hn::Load(d, gate + u));
        const V ec = vmath::GateExp<-2>(d, hn::Load(d, cell + u));
        states.Store(u, hn::Div(hn::Sub(one, ec), hn::Mul(hn::Add(one, eo), hn::Add(one, ec))));
      }
    }
  }
};

struct GruCell {
  static constexpr int kGates = Gates(Cell::kGru);
  static constexpr int kGroups = 1;
  static constexpr int kN = 2;  // gate n, whose products with the inputs and with its own h are sums of their own

  static HWY_INLINE void Multiply(const GroupStep& step) {
    MultiplyAll(step, kN);
    Product own = ProductOf(step, kN, 1, step.own, step.hidden, (kN + 1) * kPanel);
    if (!step.first_layer) {  // there, Update takes the inputs' products from the tables
      panels::Multiply(ProductOf(step, kN, 1, step.below, step.hidden, kN * kPanel), FromBias{step.bias + kN * kPanel});
      own.weights += static_cast<std::ptrdiff_t>(step.hidden) * kPanel;
    }
    panels::Multiply(own, FromBias{step.own_bias});
  }

  static HWY_NOINLINE void Update(const GroupStep& step) {
    const D d;
    const V one = hn::Set(d, 1.0F);
    const FromTables tables{step.x, step.z};
    States states(step);
    for (int r = 0; r < step.rows; ++r, states.NextRow()) {
      for (int u = 0; u < kPanel; u += kLanes) {
        const float* sum = step.sums + r * kSumColumns + u;
        V inputs[1];
        if (step.first_layer) {
          tables(r, kN * kPanel + u, inputs);
        } else {
          panels::LoadSums(sum + kN * kPanel, inputs);
        }
        const V er = vmath::GateExp<-1>(d, hn::Load(d, sum));
        const V own = hn::Div(hn::Load(d, sum + (kN + 1) * kPanel), hn::Add(one, er));
        const V en = vmath::GateExp<-2>(d, hn::Add(inputs[0], own));
        const V ez = vmath::GateExp<-1>(d, hn::Load(d, sum + kPanel));
        const V q = hn::Add(one, en);
        const V before = hn::Load(d, step.own_group + r * step.state_stride + u);
        const V numerator = hn::MulAdd(before, q, hn::Mul(ez, hn::Sub(one, en)));
        states.Store(u, hn::Div(numerator, hn::Mul(hn::Add(one, ez), q)));
      }
    }
  }
};

struct RnnCell {
  static constexpr int kGates = Gates(Cell::kRnn);
  static constexpr int kGroups = kSumPanels;

  static HWY_INLINE void Multiply(const GroupStep& step) { MultiplyAll(step, step.groups); }

  static HWY_NOINLINE void Update(const GroupStep& step) {
    const D d;
    const V one = hn::Set(d, 1.0F);
    States states(step);
    for (int r = 0; r < step.rows; ++r, states.NextRow()) {
      for (int u = 0; u < step.groups * kPanel; u += kLanes) {
        const V e = vmath::GateExp<-2>(d, hn::Load(d, step.sums + r * kSumColumns + u));
        states.Store(u, hn::Div(hn::Sub(one, e), hn::Add(one, e)));
      }
    }
  }
};

// Fetches what Update will write: the states of the paper's 104 rows are 1.1 MB, more than many second-level caches
// hold beside the weights, and each store is to another line.
template <class CellType>
HWY_INLINE void PrefetchTargets(const GroupStep& step) {
  for (int r = 0; r < step.rows; ++r) {
    const std::ptrdiff_t state = r * step.state_stride;
    for (int u = 0; u < step.groups * kPanel; u += kPanel) {
      hwy::Prefetch(step.above + state + u);
      hwy::Prefetch(step.next + state + u);
    }
    if constexpr (std::is_same_v<CellType, LstmCell>) hwy::Prefetch(step.cells + r * step.cell_stride);
  }
}

template <class CellType>
HWY_INLINE void Run(RecurrentNet& net, BlockView input, int start, std::span<Rng> rngs, MutableBlockView out,
                    float* scratch, RunWatch* watch, const RunControl* stop, float* all_logits) {
  const int rows = out.rows();
  const int padded = net.padded_hidden();
  const int padded_alphabet = net.padded_alphabet();
  const int groups = padded / kPanel;
  const ScratchLayout layout = MakeScratchLayout(net.layers, net.hidden, net.embedding_width, net.alphabet, rows);
  std::fill_n(scratch, layout.sums, 0.0F);
  float* const logits = scratch + layout.logits;
  const auto level = [&](int parity, int l) {
    return scratch + static_cast<std::size_t>(parity * (net.layers + 1) + l) * layout.level_floats;
  };
  float* const gathered = scratch + layout.gathered;
  if (!MakeTableRows(net, input, out.length() - 1, net.z, gathered, stop) ||
      !MakeTableRows(net, out, std::min(start, out.length() - 1), net.x, gathered, stop)) {
    return;
  }
  const auto table_row = [stride = net.table_stride()](const EmbeddingTable& table, Symbol symbol) {
    return table.rows + static_cast<std::ptrdiff_t>(table.slot[symbol]) * stride;
  };
  const auto prefetch_row = [columns = groups * CellType::kGates * kPanel](const float* row) {
    for (int j = 0; j < columns; j += kPanel) hwy::Prefetch(row + j);
  };

  const float* x_rows[kChunkRows];
  const float* z_rows[kChunkRows];
  for (int t = 0; t + 1 < out.length(); ++t) {
    const int parity = t & 1;
    for (int l = 0; l < net.layers; ++l) {
      const RecurrentNet::Layer& layer = net.layer[l];
      const std::ptrdiff_t own_offset = l == 0 ? 0 : padded;
      float* const cells =
          scratch + layout.cells +
          static_cast<std::size_t>(l) * static_cast<std::size_t>(rows) * static_cast<std::size_t>(padded);
      for (int group = 0; group < groups; group += CellType::kGroups) {
        if (stop != nullptr && stop->ShouldStop()) return;
        const int panel = group * CellType::kGates;
        const std::ptrdiff_t unit = static_cast<std::ptrdiff_t>(group) * kPanel;
        for (int first = 0; first < rows; first += kChunkRows) {
          const int chunk = std::min(kChunkRows, rows - first);
          const std::ptrdiff_t state_row = first * layout.state_stride;
          if (l == 0) {
            for (int r = 0; r < chunk; ++r) {
              x_rows[r] = table_row(net.x, out.row(first + r)[t]) + panel * kPanel;
              z_rows[r] = table_row(net.z, input.row(first + r)[t]) + panel * kPanel;
            }
          }
          const float* const below = level(parity, l) + state_row;
          const float* const own = below + own_offset;
          const GroupStep step = {
              .first_layer = l == 0,
              .rows = chunk,
              .groups = std::min(CellType::kGroups, groups - group),
              .hidden = net.hidden,
              .weights = layer.weights + panel * layer.panel_stride,
              .panel_stride = layer.panel_stride,
              .bias = layer.bias + panel * kPanel,
              .own_bias = layer.own_bias == nullptr ? nullptr : layer.own_bias + unit,
              .x = x_rows,
              .z = z_rows,
              .below = below,
              .own = own,
              .own_group = own + unit,
              .above = level(parity, l + 1) + state_row + unit,
              .next = level(1 - parity, l) + own_offset + state_row + unit,
              .state_stride = layout.state_stride,
              .cells = cells + static_cast<std::ptrdiff_t>(first) * padded + unit,
              .cell_stride = padded,
              .sums = scratch + layout.sums,
          };
          PrefetchTargets<CellType>(step);
          CellType::Multiply(step);
          CellType::Update(step);
        }
      }
    }
    // The table rows of the next step: z's are known already, x's once the symbol is chosen.
    if (t + 2 < out.length()) {
      for (int r = 0; r < rows; ++r) prefetch_row(table_row(net.z, input.row(r)[t + 1]));
    }
    if (t + 1 < start) continue;
    const float* const top = level(parity, net.layers);
    for (int first = 0; first < rows; first += kChunkRows) {
      const int chunk = std::min(kChunkRows, rows - first);
      panels::Multiply({.rows = chunk,
                        .in = top + first * layout.state_stride,
                        .in_stride = layout.state_stride,
                        .inputs = net.hidden,
                        .weights = net.output_weights,
                        .panel_stride = static_cast<std::ptrdiff_t>(net.hidden) * kPanel,
                        .panels = padded_alphabet / kPanel,
                        .out = logits,
                        .out_stride = padded_alphabet},
                       FromBias{net.output_bias});
      if (all_logits != nullptr) {
        for (int r = 0; r < chunk; ++r) {
          all_logits = std::copy_n(logits + static_cast<std::ptrdiff_t>(r) * padded_alphabet, net.alphabet, all_logits);
        }
      }
      Symbol chosen[kChunkRows];
      panels::Choose(logits, padded_alphabet, chunk, net.alphabet, padded_alphabet, net.temperature,
                     rngs.data() + first, chosen);
      for (int r = 0; r < chunk; ++r) {
        if (HWY_UNLIKELY(net.x.slot[chosen[r]] == EmbeddingTable::kNone)) {
          MakeTableRows(net, &chosen[r], 1, net.x, gathered);
        } else {
          prefetch_row(table_row(net.x, chosen[r]));
        }
        out.row(first + r)[t + 1] = chosen[r];
      }
    }
    if (watch != nullptr && t + 2 == watch->next() && !watch->Look()) return;
  }
}

void RunRecurrent(RecurrentNet& net, BlockView input, int start, std::span<Rng> rngs, MutableBlockView out,
                  float* scratch, RunWatch* watch, const RunControl* stop, float* logits) {
  switch (net.cell) {
    case Cell::kLstm:
      return Run<LstmCell>(net, input, start, rngs, out, scratch, watch, stop, logits);
    case Cell::kGru:
      return Run<GruCell>(net, input, start, rngs, out, scratch, watch, stop, logits);
    case Cell::kRnn:
      return Run<RnnCell>(net, input, start, rngs, out, scratch, watch, stop, logits);
  }
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(RunRecurrent);

void RunRecurrent(RecurrentNet& net, BlockView input, int start, std::span<Rng> rngs, MutableBlockView out,
                  float* scratch, RunWatch* watch, const RunControl* stop, float* logits) {
  HWY_DYNAMIC_DISPATCH(RunRecurrent)(net, input, start, rngs, out, scratch, watch, stop, logits);
}

std::size_t RecurrentScratchFloats(int layers, int hidden, int embedding_width, int alphabet, int rows) {
  return MakeScratchLayout(layers, hidden, embedding_width, alphabet, rows).total;
}

}  // namespace iterand
#endif  // HWY_ONCE
