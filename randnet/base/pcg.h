// PCG's 64-bit state, for code that steps generators by itself: state <- state * kPcgMultiplier + increment (O'Neill
// 2014, "PCG: a family of simple fast space-efficient statistically good algorithms for random number generation").
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace iterand {

inline constexpr std::uint64_t kPcgMultiplier = 6364136223846793005U;

// n steps at once: power[n] * state + sum[n] * increment, modulo 2^64 (Brown 1994, "Random number generation with
// arbitrary strides"): power[n] = A^n and sum[n] = (A^n - 1) / (A - 1).
struct PcgJumps {
  static constexpr std::size_t kCount = 193;
  std::array<std::uint64_t, kCount> power;
  std::array<std::uint64_t, kCount> sum;
};
constexpr PcgJumps MakePcgJumps() {
  PcgJumps jumps{};
  jumps.power[0] = 1;
  for (std::size_t n = 1; n < PcgJumps::kCount; ++n) {
    jumps.power[n] = jumps.power[n - 1] * kPcgMultiplier;
    jumps.sum[n] = jumps.sum[n - 1] * kPcgMultiplier + 1;
  }
  return jumps;
}
inline constexpr PcgJumps kPcgJumps = MakePcgJumps();

}  // namespace iterand
