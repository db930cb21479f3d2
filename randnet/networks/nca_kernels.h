// The step of a neural cellular automaton (randnet/networks/nca.h), vectors running across cells.
#pragma once

#include <algorithm>
#include <cstddef>

#include "randnet/base/rng.h"
#include "randnet/block.h"

namespace iterand {

inline constexpr int kNcaCells = 16;  // cells that are computed together
inline constexpr int kNcaMaxFeatures = 64;
inline constexpr int kNcaMaxHidden = 256;
inline constexpr int kNcaMaxColours = 4096;
inline constexpr int kNcaTable = 32;    // the most colours for which there are tables
inline constexpr int kNcaOutputs = 16;  // the most outputs of a tile
inline constexpr int kNcaMargin = 8;    // symbols that are copied at once, also beyond the end of a row

// Outputs of a layer are cut into tiles of about equal size: few sums side by side would wait for each other.
struct NcaTile {
  int first;
  int count;
};
constexpr int NcaTiles(int outputs) { return (outputs + kNcaOutputs - 1) / kNcaOutputs; }
constexpr NcaTile NcaTileAt(int outputs, int tile) {
  const int tiles = NcaTiles(outputs);
  const int more = outputs % tiles;  // tiles that have one output more than the others
  return {tile * (outputs / tiles) + std::min(tile, more), outputs / tiles + (tile < more ? 1 : 0)};
}

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
  // The same as the step reads them.
  const float* tables = nullptr;          // neighbours: [feature][position][kNcaTable]; null if colours are more
  const float* packed_hidden = nullptr;   // [tile of hidden][feature][unit]
  const float* packed_outputs = nullptr;  // [tile of colours][hidden][colour]

  int positions() const { return height == 1 ? 3 : 9; }
  int padded_features() const { return (features + 3) / 4 * 4; }
  // A grid has a border of one cell (on the left and right alone where it has one row), a copy of the opposite side.
  std::ptrdiff_t stride() const { return width + 2; }
  int border_rows() const { return height == 1 ? 0 : 1; }
  // Symbols of a grid, with a margin that is read but not used.
  std::size_t grid_cells() const {
    return static_cast<std::size_t>(height + 2 * border_rows()) * static_cast<std::size_t>(stride()) + kNcaMargin;
  }
  // The first cell of the grid proper.
  std::ptrdiff_t origin() const { return border_rows() * stride() + 1; }
};

// Symbols of a plane: all rows of a grid, its border rows included, each shifted and cut to the grid's width. A group
// of cells may reach past its end.
inline std::ptrdiff_t NcaPlane(const NcaNet& net) {
  return static_cast<std::ptrdiff_t>(net.height + 2 * net.border_rows()) * net.width + kNcaCells;
}

// Memory that a step works in.
struct NcaScratch {
  Symbol* planes;  // 3 * NcaPlane()
  Symbol* chosen;  // height * width + kNcaCells
  float* logits;   // colours * kNcaCells, aligned to 64 bytes
};

// Writes the border of a grid from its inside.
void NcaWrap(const NcaNet& net, Symbol* grid);

// Writes the planes of a grid: the neighbours to the left, the cells, the neighbours to the right. In them the
// neighbours of successive cells are successive, across the ends of rows too.
void NcaSpread(const NcaNet& net, const Symbol* grid, Symbol* planes);

// Writes a grid, border included, from its cells without one.
void NcaGather(const NcaNet& net, const Symbol* cells, Symbol* grid);

// One step: `next` becomes the grid that follows `grid`, border included. If all_logits is not null it receives the
// logits of every cell, in the order [cell][colour] (for tests).
void NcaStep(const NcaNet& net, const Symbol* grid, Symbol* next, const NcaScratch& scratch, Rng& rng,
             float* all_logits = nullptr);

}  // namespace iterand
