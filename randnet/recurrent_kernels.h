// The computation of recurrent networks: packed weights, and the vector code that runs them (randnet/recurrent_kernels.cc).
//
// Layout. Everything is cut into panels of kPanel = 16 outputs. A panel is [k][16]: for each input k the weights of the 16
// outputs, so that a multiplication reads it front to back. A layer is [group of 16 units][gate][k][16]: the gates of the same 16
// units are neighbours, and the cell update of a group needs only that group's products. Units and symbols are padded to a multiple
// of 16 with zero weights. The layout is the same for every vector width: a panel is two vectors in AVX2, one in AVX-512, four
// in NEON.
//
// Accumulators start at the bias (or, in the first layer, at the sum of two table rows, one for each input symbol) and take
// one fma for each k in ascending order; vectors run across the outputs of a panel. So results depend neither on the target nor on
// how rows are cut into tiles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "randnet/block.h"
#include "randnet/rng.h"

namespace iterand {

inline constexpr int kPanel = 16;  // outputs of a panel
inline constexpr int kMaxRecurrentLayers = 16;

constexpr int PaddedToPanel(int count) { return (count + kPanel - 1) / kPanel * kPanel; }

// A network, read-only while it runs. All pointers are aligned to 64 bytes.
struct RecurrentNet {
  struct Layer {
    const float* weights = nullptr;  // [group][4 gates][inputs][16]; first weight that Run reads (see panel_stride)
    std::ptrdiff_t panel_stride = 0; // floats from a panel to the next; above the first layer, inputs * 16
    const float* bias = nullptr;     // [group][4 gates][16]
  };
  int layers = 0;
  int hidden = 0;
  int alphabet = 0;
  float temperature = 0;
  Layer layer[kMaxRecurrentLayers];
  const float* table_x = nullptr;  // alphabet x (4 * padded hidden): bias and product with the embedding of x
  const float* table_z = nullptr;  // the same of z, without bias
  const float* output_weights = nullptr;  // [panel of symbols][hidden][16]
  const float* output_bias = nullptr;     // padded alphabet; the lowest float where there is no symbol

  int padded_hidden() const { return PaddedToPanel(hidden); }
  int padded_alphabet() const { return PaddedToPanel(alphabet); }
};

// Makes a table of symbols x (4 * padded hidden): row n is chain(init; W, embedding n), where `weights` has the panels of a
// layer (`panels` of them, panel_stride floats apart), reading `width` inputs each; `init` has panels * 16 floats.
void MakeEmbeddingTable(const float* embedding, int symbols, int width, const float* weights, std::ptrdiff_t panel_stride,
                        int panels, const float* init, float* table);

// Floats that RunLstm needs as scratch.
std::size_t RecurrentScratchFloats(int layers, int hidden, int alphabet, int rows);

// Runs an LSTM (randnet/lstm.h) over all rows. out already holds the first `start` >= 1 symbols of each row; rngs has one
// generator a row, used only at a temperature. `logits`, if not null, receives the logits of each step from t = start - 1 on, in
// the order [step][row][alphabet] (for tests).
void RunLstm(const RecurrentNet& net, BlockView input, int start, std::span<Rng> rngs, MutableBlockView out,
             float* scratch, float* logits = nullptr);

}  // namespace iterand
