// The step of an echo state network (randnet/networks/reservoir.h), vectors running across rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "randnet/block.h"

namespace iterand {

inline constexpr int kReservoirRows = 16;     // rows that take a step together
inline constexpr int kReservoirUnits = 8;     // units whose sums are added up together
inline constexpr int kReservoirOutputs = 12;  // the most outputs whose sums are added up together

// Units of a network, filled up to whole blocks.
constexpr int ReservoirPadded(int width) { return (width + kReservoirUnits - 1) / kReservoirUnits * kReservoirUnits; }

// A network, read-only while it runs.
struct ReservoirNet {
  int width = 0;
  int connections = 0;
  int emitted = 0;
  const float* embedding = nullptr;        // [symbol][width], and kReservoirUnits floats after the last symbol
  const std::uint32_t* sources = nullptr;  // [unit][connection]
  const float* weights = nullptr;          // [unit][connection]
  const float* output_weights = nullptr;   // [emitted][width]
  // The same in the order in which the step reads them, so that one pointer moves through each.
  const std::uint16_t* packed_sources = nullptr;  // [block of units][connection][unit], kReservoirScale * source
  const float* packed_weights = nullptr;          // [block of units][connection][unit]; 0 beyond the last unit
  const float* packed_outputs = nullptr;          // [tile of outputs][unit][output]
};

inline constexpr int kReservoirScale = 4;  // a packed source is at most 4 * 4095

// Outputs are cut into tiles of about equal size: few sums side by side would wait for each other.
struct ReservoirTile {
  int first;
  int count;
};
constexpr int ReservoirTiles(int emitted) { return (emitted + kReservoirOutputs - 1) / kReservoirOutputs; }
constexpr ReservoirTile ReservoirTileAt(int emitted, int tile) {
  const int tiles = ReservoirTiles(emitted);
  const int more = emitted % tiles;  // tiles that have one output more than the others
  return {tile * (emitted / tiles) + std::min(tile, more), emitted / tiles + (tile < more ? 1 : 0)};
}

// One step of kReservoirRows rows (`wide`), or of half as many. With R rows, states are [padded unit][R] and `logits`
// becomes [emitted][R]. z has R symbols. All pointers to floats but those of the network are aligned to 64 bytes; state
// and next do not overlap.
void ReservoirStep(const ReservoirNet& net, bool wide, const Symbol* z, const float* state, float* next, float* logits);

}  // namespace iterand
