// What a core can do at most: fused multiply-adds on registers, on memory, and reads. For benchmarks.
#pragma once

#include <cstdint>

namespace iterand {

// Runs `steps` steps of independent vector fmas, enough of them to hide their latency, in the vector target that the
// kernels use. Returns how many floating-point operations that were (two per lane and fma).
double RunFmas(std::int64_t steps);

// The same for fmas of eight lanes that each read other eight floats, at an index that is read as well: what the load
// ports allow a sparse product with few rows. The floats fit into the first-level cache.
double RunIndexedFmas(std::int64_t steps);

// Reads `count` aligned floats, a multiple of 64, and returns a sum of some.
float RunReads(const float* floats, std::int64_t count);

}  // namespace iterand
