// The step of a neural cellular automaton (randnet/networks/nca.h), vectors running across cells.
#pragma once

#include <cstddef>

#include "randnet/base/rng.h"
#include "randnet/block.h"

namespace iterand {

inline constexpr int kNcaCells = 16;  // cells that are computed together
inline constexpr int kNcaMaxFeatures = 64;
inline constexpr int kNcaMaxHidden = 256;

// A rule and its grid, read-only while it runs. Weights of neighbours and features are padded to a multiple of four
// features.
struct NcaNet {
  int height = 0;
  int width = 0;
  int colours = 0;
  int features = 0;
  int hidden = 0;
  float identity_bias = 0;
  float temperature = 0;
  const float* neighbour_weights = nullptr;  // [position][colour][padded features]
  const float* feature_bias = nullptr;       // [padded features]
  const float* hidden_weights = nullptr;     // [hidden][features]
  const float* hidden_bias = nullptr;        // [hidden]
  const float* output_weights = nullptr;     // [colours][hidden]
  const float* output_bias = nullptr;        // [colours]

  int positions() const { return height == 1 ? 3 : 9; }
  int padded_features() const { return (features + 3) / 4 * 4; }
  // A grid has a border of one cell (on the left and right alone where it has one row), a copy of the opposite side.
  std::ptrdiff_t stride() const { return width + 2; }
  int border_rows() const { return height == 1 ? 0 : 1; }
  std::size_t grid_cells() const {
    return static_cast<std::size_t>(height + 2 * border_rows()) * static_cast<std::size_t>(stride());
  }
  // The first cell of the grid proper.
  std::ptrdiff_t origin() const { return border_rows() * stride() + 1; }
};

// Writes the border of a grid from its inside.
void NcaWrap(const NcaNet& net, Symbol* grid);

// One step: `next` becomes the grid that follows `grid`, border included. `logits` is scratch of colours * kNcaCells
// floats, aligned to 64 bytes. If all_logits is not null it receives the logits of every cell, in the order
// [cell][colour] (for tests).
void NcaStep(const NcaNet& net, const Symbol* grid, Symbol* next, float* logits, Rng& rng, float* all_logits = nullptr);

}  // namespace iterand
