// Unit costs for Family::most_seconds, in seconds of one core of the kind that docs/performance.md describes. They are
// constants and not measured, so that a recipe is valid everywhere or nowhere. tests/randnet/cost_test.cc measures
// small and one-sided programs of every family against them, and prints both. randnet/base/matrix.h has the costs of
// matrix kernels.
#pragma once

namespace iterand::cost {

inline constexpr double kFlop = 1e-11;   // of a product of matrices, at its best
inline constexpr double kRead = 1e-10;   // reading a float that is not at hand: of weights, once for all rows of a step
inline constexpr double kValue = 5e-10;  // a value that passes a kernel: a tanh, a weight of a choice
inline constexpr double kCall = 4e-8;    // beginning a kernel, however small what it works on
inline constexpr double kMiss = 5e-8;    // going to a random place of a table that no cache holds
inline constexpr double kWeight = 1e-9;  // drawing a weight
inline constexpr double kGamma = 3e-8;   // drawing one probability of a random distribution, ready to draw from
inline constexpr double kSymbol = 5e-9;  // writing a symbol, or a draw or a step of a program, with a look-up or two

// Access to a random place of a table of this many floats, beyond what a look-up in a small one takes.
inline double Miss(double table) { return table > 1 << 20 ? kMiss : 0; }

// Adding up a row of a table of this many floats.
inline double TableRow(double floats, double table) {
  return kSymbol + Miss(table) + (table > 1 << 20 ? 4 : 1) * kRead * floats;
}

}  // namespace iterand::cost
