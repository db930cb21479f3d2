// The step of an echo state network (randnet/networks/reservoir.h), vectors running across rows.
#pragma once

#include <cstdint>

#include "randnet/block.h"

namespace iterand {

inline constexpr int kReservoirRows = 16;  // rows that take a step together

// A network, read-only while it runs.
struct ReservoirNet {
  int width = 0;
  int connections = 0;
  int emitted = 0;
  const float* embedding = nullptr;        // [symbol][width]
  const std::uint32_t* sources = nullptr;  // [unit][connection]
  const float* weights = nullptr;          // [unit][connection]
  const float* output_weights = nullptr;   // [emitted][width]
};

// One step of kReservoirRows rows (`wide`), or of the first half of them. States are [unit][kReservoirRows], and
// `logits` becomes [emitted][kReservoirRows]; the entries of rows that do not run are not touched. z has a symbol for
// each row that runs. All pointers to floats but those of the network are aligned to 64 bytes; state and next do not
// overlap.
void ReservoirStep(const ReservoirNet& net, bool wide, const Symbol* z, const float* state, float* next, float* logits);

}  // namespace iterand
