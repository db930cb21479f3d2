// Vector code of randnet/discrete.cc: many gamma variates at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace iterand::internal {

// Most values that one call handles.
inline constexpr std::size_t kGammaChunk = 64;

// Elements that every array must have behind its `count`, since whole vectors are read and written.
inline constexpr std::size_t kGammaLanes = 16;

// One proposal of Marsaglia and Tsang each for the logarithm of a Gamma(1 + ..) variate, as in Rng::LogGamma: ln v of
// proposal i to log_v[i], whether it is accepted (1 or 0) to accepted[i]. The words are those that the normal and the
// uniform of a proposal are made of. Only the first `count` values mean anything; what lies behind them is computed
// too.
void ProposeGammas(float d, float c, const std::uint32_t* normal_words, const std::uint32_t* uniform_words,
                   float* log_v, std::uint32_t* accepted, std::size_t count);

// values[i] += ln(u) / shape, u a uniform in (0, 1] made of words[i]; arrays and `count` as above.
void AddBoost(float shape, const std::uint32_t* words, float* values, std::size_t count);

// values[i] = e^(values[i] - largest), exactly `count` of them.
void ExpBelow(float largest, float* values, std::size_t count);

}  // namespace iterand::internal
