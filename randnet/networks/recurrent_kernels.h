// The computation of recurrent networks: packed weights, and the vector code that runs them
// (randnet/networks/recurrent_kernels.cc).
//
// Layout. Weights are cut into panels of 16 outputs (randnet/base/matrix.h). A layer is [group of 16
// units][gate][k][16]: the gates of the same 16 units are neighbours, and the cell update of a group needs only that
// group's products. Units and symbols are padded to a multiple of 16 with zero weights. The layout is the same for
// every vector width: a panel is two vectors in AVX2, one in AVX-512, four in NEON.
//
// Accumulators start at the bias (or, in the first layer, at the sum of two table rows, one for each input symbol) and
// take one fma for each k in ascending order; vectors run across the outputs of a panel. So results depend neither on
// the target nor on how rows are cut into tiles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "randnet/base/matrix.h"
#include "randnet/base/rng.h"
#include "randnet/block.h"
#include "randnet/program.h"
#include "randnet/run_control.h"

namespace iterand {

inline constexpr int kMaxRecurrentLayers = 16;
inline constexpr int kRecurrentChunkRows = 24;  // rows that share weights while these are in the first-level cache

// What a unit does with its inputs: randnet/networks/lstm.h, gru.h, rnn.h.
enum class Cell { kLstm, kGru, kRnn };

// Gates of a unit, that is products with weights of their own: i, f, g, o; r, z, n; one.
constexpr int Gates(Cell cell) { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }

// Floats from a row of an EmbeddingTable to the next.
constexpr std::ptrdiff_t TableStride(Cell cell, int hidden) {
  return Gates(cell) * matrix::Padded(hidden) + matrix::kPanel;
}

// Products of the first layer with the embeddings of the symbols that have occurred: for each symbol one row of gates *
// padded hidden floats, chain(init; W, embedding). The distance of rows is not a power of two, so that the same gates
// of many rows do not share cache sets. Rows are made when a symbol first occurs: a run of few rows over a large
// alphabet, or a program that falls silent, pays only for what it uses.
struct EmbeddingTable {
  static constexpr std::uint32_t kNone = 0xFFFFFFFFU;
  const float* weights = nullptr;  // first panel of the first layer that reads this input
  const float* init = nullptr;     // gates * padded hidden
  float* rows = nullptr;           // room for `alphabet` rows, TableStride apart
  std::uint32_t* slot = nullptr;   // of each symbol its row, or kNone
  std::uint32_t used = 0;          // rows made
};

// A network. Everything but the tables is read-only while it runs. All pointers are aligned to 64 bytes.
struct RecurrentNet {
  struct Layer {
    const float* weights = nullptr;   // [group][gate][inputs][16]; in the first layer, where its own h's weights begin
    std::ptrdiff_t panel_stride = 0;  // floats from a panel to the next: inputs * 16
    const float* bias = nullptr;      // [group][gate][16]
    const float* own_bias = nullptr;  // GRU: [group][16], of the products of n with its own h
  };
  Cell cell = Cell::kLstm;
  int layers = 0;
  int hidden = 0;
  int alphabet = 0;
  int embedding_width = 0;
  float temperature = 0;
  const float* embedding = nullptr;  // alphabet x embedding_width, row-major
  Layer layer[kMaxRecurrentLayers];
  EmbeddingTable x;
  EmbeddingTable z;
  const float* output_weights = nullptr;  // [panel of symbols][hidden][16]
  const float* output_bias = nullptr;     // padded alphabet; the lowest float where there is no symbol

  std::ptrdiff_t table_stride() const { return TableStride(cell, hidden); }
  int padded_hidden() const { return matrix::Padded(hidden); }
  int padded_alphabet() const { return matrix::Padded(alphabet); }
};

// Floats that RunRecurrent needs as scratch.
std::size_t RecurrentScratchFloats(int layers, int hidden, int embedding_width, int alphabet, int rows);

// Runs a network over all rows. out already holds the first `start` >= 1 symbols of each row; rngs has one generator
// per row, used only at a temperature. A watch, if not null, looks at the rows. `stop`, if not null, can pause the run
// or end it. `logits`, if not null, receives the logits of each step from t = start - 1 on, in the order
// [step][row][alphabet] (for tests).
void RunRecurrent(RecurrentNet& net, BlockView input, int start, std::span<Rng> rngs, MutableBlockView out,
                  float* scratch, RunWatch* watch, const RunControl* stop, float* logits = nullptr);

}  // namespace iterand
