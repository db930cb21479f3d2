// Vector code of randnet/base/rng.cc: many PCG32 steps at once by jumping ahead (randnet/base/pcg.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace iterand::internal {

// Each writes what the scalar definition in randnet/base/rng.h gives for `count` successive words of a PCG32 with this
// state and increment (odd), and returns the state after them.
std::uint64_t FillWords(std::uint64_t state, std::uint64_t increment, std::uint32_t* out, std::size_t count);
std::uint64_t FillUniform(std::uint64_t state, std::uint64_t increment, float low, float high, float* out,
                          std::size_t count);
std::uint64_t FillNormal(std::uint64_t state, std::uint64_t increment, float scale, float* out, std::size_t count);

}  // namespace iterand::internal
