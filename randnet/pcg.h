// PCG's 64-bit state, for code that steps generators by itself: state <- state * kPcgMultiplier + increment (O'Neill
// 2014, "PCG: a family of simple fast space-efficient statistically good algorithms for random number generation").
#pragma once

#include <cstdint>

namespace iterand {

inline constexpr std::uint64_t kPcgMultiplier = 6364136223846793005U;

}  // namespace iterand
