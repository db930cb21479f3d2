// Elementary functions of our own, in float32: the same bits on every machine.
//
// The C library's transcendental functions differ between versions and machines, so nothing on the generating path
// calls them. Each function here is a fixed sequence of float32 additions, multiplications, divisions, square roots and
// fused multiply-adds, and is thus exact by definition; the vector forms of randnet/base/math-inl.h apply the same
// sequence to each lane and give the same bits (tests/randnet/base/math_test.cc).
//
// Largest errors against the true value, in units in the last place (ulp) of the result, over all float32 arguments
// (measured and asserted by tests/randnet/base/math_test.cc):
//
//   Exp   1.0 ulp   also where the result is subnormal; overflows to +inf, underflows to 0
//   Log   1.0 ulp   subnormal arguments too; Log(0) = -inf, Log(negative) = NaN, Log(+inf) = +inf
//   Tanh  1.5 ulp   odd; Tanh(+-inf) = +-1; the sign of zero is kept
//
// NaN gives NaN everywhere. No function raises an error. The processor must not be set to flush subnormal numbers.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace iterand::math {

// Coefficients, shared by the scalar and the vector forms. Minimax fits, by iteratively reweighted least squares with
// the coefficients rounded one after the other.
namespace internal {

inline constexpr float kLog2E = 0x1.715476p+0F;
inline constexpr float kLn2High = 0x1.62e4p-1F;  // few bits, so that n * kLn2High is exact
inline constexpr float kLn2Low = 0x1.7f7d1cp-20F;
inline constexpr float kRound =
    0x1.8p+23F;  // x + kRound - kRound rounds |x| < 2^22 to the nearest integer, ties to even

// exp(r) = 1 + r + r^2 P(r) on [-ln 2 / 2, ln 2 / 2], lowest order first.
inline constexpr float kExp[] = {0x1.fffffcp-2F, 0x1.555492p-3F, 0x1.5558b0p-5F, 0x1.123986p-7F, 0x1.6a4cb4p-10F};
inline constexpr float kExpLow = -104.0F;  // exp is 0 from here down
inline constexpr float kExpHigh = 89.0F;   // exp is +inf from here up

// log(1 + f) = f - f^2 / 2 + f^3 P(f) on [sqrt(1/2) - 1, sqrt(2) - 1].
inline constexpr float kLog[] = {0x1.555554p-2F, -0x1.000228p-2F, 0x1.99a026p-3F, -0x1.54720ep-3F,
                                 0x1.22d7ecp-3F, -0x1.0d85a4p-3F, 0x1.0568d8p-3F, -0x1.38d050p-4F};
inline constexpr std::uint32_t kSqrtHalfBits = 0x3F3504F3U;  // bits of sqrt(1/2)

// tanh(x) = x + x^3 P(x^2) on [-5/8, 5/8].
inline constexpr float kTanh[] = {-0x1.555532p-2F, 0x1.1106f6p-3F, -0x1.b835a4p-5F, 0x1.51f8cep-6F, -0x1.750ce2p-8F};
inline constexpr float kTanhSmall = 0.625F;
inline constexpr float kTanhOne = 10.0F;  // tanh rounds to 1 from here up

// 2^r = 1 + r P(r) on [-1/2, 1/2].
inline constexpr float kExp2[] = {0x1.62e42ap-1F, 0x1.ebf9c2p-3F, 0x1.c6b6e0p-5F, 0x1.3ce8dcp-7F, 0x1.5bd6d0p-10F};
inline constexpr float kGateLimit = 27.5F;

// Giles 2012, "Approximating the erfinv function", single precision; highest order first, times x.
inline constexpr float kErfInvCentre[] = {2.81022636e-08F,  3.43273939e-07F, -3.5233877e-06F,
                                          -4.39150654e-06F, 0.00021858087F,  -0.00125372503F,
                                          -0.00417768164F,  0.246640727F,    1.50140941F};
inline constexpr float kErfInvTail[] = {-0.000200214257F, 0.000100950558F, 0.00134934322F,
                                        -0.00367342844F,  0.00573950773F,  -0.0076224613F,
                                        0.00943887047F,   1.00167406F,     2.83297682F};
inline constexpr float kSqrt2 = 0x1.6a09e6p+0F;

}  // namespace internal

// e^x.
inline float Exp(float x) {
  if (x != x) return x;
  x = x < internal::kExpLow ? internal::kExpLow : x;
  x = x > internal::kExpHigh ? internal::kExpHigh : x;
  const float n = std::fma(x, internal::kLog2E, internal::kRound) - internal::kRound;
  const float r = std::fma(n, -internal::kLn2Low, std::fma(n, -internal::kLn2High, x));
  float p = internal::kExp[4];
  p = std::fma(p, r, internal::kExp[3]);
  p = std::fma(p, r, internal::kExp[2]);
  p = std::fma(p, r, internal::kExp[1]);
  p = std::fma(p, r, internal::kExp[0]);
  const float y = std::fma(r * r, p, r) + 1.0F;
  // Two steps, so that each power of two is a normal number and a subnormal result is rounded once.
  const auto k = static_cast<std::int32_t>(n);
  const std::int32_t half = k >> 1;
  return y * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((k - half + 127) << 23);
}

// Natural logarithm.
inline float Log(float x) {
  if (!(x > 0.0F)) return x == 0.0F ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  if (x > std::numeric_limits<float>::max()) return x;
  const bool subnormal = x < 0x1p-126F;
  x = subnormal ? x * 0x1p+23F : x;
  // m in [sqrt(1/2), sqrt(2)) and e with x = m 2^e.
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x) + (0x3F800000U - internal::kSqrtHalfBits);
  const float e = static_cast<float>(static_cast<std::int32_t>(bits >> 23) - 127) - (subnormal ? 23.0F : 0.0F);
  const float f = std::bit_cast<float>((bits & 0x007FFFFFU) + internal::kSqrtHalfBits) - 1.0F;
  float p = internal::kLog[7];
  p = std::fma(p, f, internal::kLog[6]);
  p = std::fma(p, f, internal::kLog[5]);
  p = std::fma(p, f, internal::kLog[4]);
  p = std::fma(p, f, internal::kLog[3]);
  p = std::fma(p, f, internal::kLog[2]);
  p = std::fma(p, f, internal::kLog[1]);
  p = std::fma(p, f, internal::kLog[0]);
  const float square = f * f;
  float y = std::fma(e, internal::kLn2Low, f * square * p);
  y = std::fma(-0.5F, square, y);
  return std::fma(e, internal::kLn2High, f + y);
}

// Hyperbolic tangent.
inline float Tanh(float x) {
  const float magnitude = std::fabs(x);
  if (magnitude < internal::kTanhSmall) {
    const float square = x * x;
    float p = internal::kTanh[4];
    p = std::fma(p, square, internal::kTanh[3]);
    p = std::fma(p, square, internal::kTanh[2]);
    p = std::fma(p, square, internal::kTanh[1]);
    p = std::fma(p, square, internal::kTanh[0]);
    return std::fma(x * square, p, x);
  }
  const float clamped = magnitude > internal::kTanhOne ? internal::kTanhOne : magnitude;
  return std::copysign(1.0F - 2.0F / (Exp(clamped + clamped) + 1.0F), x);
}

// sqrt(2) erfinv(x), x in (-1, 1): a standard normal variate where x is uniform. Relative error below 2e-6. At and
// beyond +-1 it is +-inf; NaN for NaN.
inline float NormalFromSymmetric(float x) {
  if (!(std::fabs(x) < 1.0F)) return x == x ? std::copysign(std::numeric_limits<float>::infinity(), x) : x;
  const float w = -Log(std::fma(-x, x, 1.0F));
  const bool centre = w < 5.0F;
  const float v = centre ? w - 2.5F : std::sqrt(w) - 3.0F;
  const float* c = centre ? internal::kErfInvCentre : internal::kErfInvTail;
  float p = c[0];
  for (int i = 1; i < 9; ++i) p = std::fma(p, v, c[i]);
  return p * (x * internal::kSqrt2);
}

// e^(scale x) for the gates of recurrent networks: cheap, and never so large or small that products of three overflow.
// The exponent scale x is clamped to [-kGateLimit, kGateLimit] = +-27.5, where a sigmoid is within 1.2e-12 of its
// limit. Relative error below 6e-7. x must not be NaN.
template <int kScale = 1>
inline float GateExp(float x) {
  constexpr float kMagnitude = kScale < 0 ? -kScale : kScale;
  constexpr float kLimit = internal::kGateLimit / kMagnitude;
  constexpr float kFactor = kScale * internal::kLog2E;
  x = x > kLimit ? kLimit : x;
  x = x < -kLimit ? -kLimit : x;
  const float shifted = std::fma(x, kFactor, internal::kRound);
  const float r = std::fma(x, kFactor, -(shifted - internal::kRound));
  float p = internal::kExp2[4];
  p = std::fma(p, r, internal::kExp2[3]);
  p = std::fma(p, r, internal::kExp2[2]);
  p = std::fma(p, r, internal::kExp2[1]);
  p = std::fma(p, r, internal::kExp2[0]);
  p = std::fma(p, r, 1.0F);
  // The low bits of `shifted` hold the integer; moved up, they are added to the exponent.
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) + (std::bit_cast<std::uint32_t>(shifted) << 23));
}

}  // namespace iterand::math
