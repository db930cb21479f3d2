// The vector forms of randnet/base/math-inl.h, callable from a test through run-time dispatch.
#pragma once

#include <span>

namespace iterand {

enum class VectorFunction { kExp, kLogNormal, kTanh, kNormal, kGate, kGateMinus, kGateMinusTwo };

// y[i] = f(x[i]); both of one length.
void ApplyVectorFunction(VectorFunction function, std::span<const float> x, std::span<float> y);

}  // namespace iterand
