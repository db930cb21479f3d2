// The core's fp32 peak: fused multiply-adds on registers alone. For benchmarks.
#pragma once

#include <cstdint>

namespace iterand {

// Runs `steps` steps of independent vector fmas, enough of them to hide their latency, in the vector target that the
// kernels use. Returns how many floating-point operations that were (two per lane and fma).
double RunFmas(std::int64_t steps);

}  // namespace iterand
