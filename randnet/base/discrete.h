// Random discrete distributions and exact, fast draws from them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "randnet/base/rng.h"
#include "randnet/block.h"

namespace iterand {

// Draws `count` distinct symbols of an alphabet, in random order (the first steps of a Fisher-Yates shuffle).
// `scratch` keeps its memory between calls.
void DrawDistinct(Rng& rng, int alphabet, int count, std::vector<Symbol>& scratch, std::span<Symbol> out);

// ln v of the first accepted proposal of Marsaglia and Tsang, d and c being their constants: a Gamma(d + 1/3) variate
// is d v.
float ProposeUntilAccepted(Rng& rng, float d, float c);

// What is the same for all Gamma(shape, 1) variates, shape > 0.
struct GammaShape {
  explicit GammaShape(float gamma_shape);

  float shape;
  bool boosts;  // shape < 1
  float d;      // of Marsaglia and Tsang
  float c;
  float log_d;
};

// Fills `out` with logarithms of Gamma(shape, 1) variates (Marsaglia and Tsang 2000, "A simple method for generating
// gamma variables"; shape < 1 by the boost of a power of a uniform, which is a sum in the logarithm, so that tiny
// shapes do not underflow). In chunks of 64 values (the last one shorter), a chunk of n values takes from the
// generator: n words for the normals of the first proposals, n words for their uniforms, and if shape < 1, n words for
// the boosts; then, value by value in order, what each rejected first proposal needs to be drawn again, a normal and a
// uniform per attempt.
void DrawLogGammas(Rng& rng, const GammaShape& shape, std::span<float> out);

// values[i] = e^(values[i] - the largest value).
void ExpBelowLargest(std::span<float> values);

// Fills `weights` with a symmetric Dirichlet(concentration) draw, scaled so that the largest weight is 1:
// DrawLogGammas, then ExpBelowLargest. Tiny concentrations give one weight of 1 and zeros.
void DrawDirichlet(Rng& rng, const GammaShape& concentration, std::span<float> weights);

// One column of an alias table: 24-bit threshold, and what is drawn on either side of it.
struct AliasColumn {
  std::uint32_t threshold;  // in units of 2^-24
  Symbol drawn[2];          // if the fraction is below the threshold, if it is not
};

// Builds alias columns (Walker 1977; Vose 1991, "A linear algorithm for generating random numbers with a given
// distribution") for weights >= 0, at least one positive, in integer arithmetic: the weights are first rounded to
// multiples of 2^-24 of their sum, the remainder going to the largest. `symbols[i]` is what weight i draws.
class AliasBuilder {
 public:
  // Makes room for `count` weights, so that Build allocates nothing.
  void Reserve(std::size_t count);
  void Build(std::span<const float> weights, std::span<const Symbol> symbols, std::span<AliasColumn> columns);

  // DrawDirichlet for the weights, then Build with their numbers for symbols. At least one column, at most as many as
  // symbols have numbers. What it leaves in the generator is not defined: nothing may be drawn after it.
  void DrawDirichlet(Rng& rng, const GammaShape& concentration, std::span<AliasColumn> columns);

  // The same for two tables of as many columns, each from a generator of its own; faster than one after the other.
  void DrawTwoDirichlets(Rng& first_rng, Rng& second_rng, const GammaShape& concentration, std::span<AliasColumn> first,
                         std::span<AliasColumn> second);

 private:
  std::vector<std::int32_t> units_;   // of each weight, before scaling
  std::vector<std::uint64_t> small_;  // weights with less than a column left: that mass << 32 | the weight's number
  std::vector<std::uint32_t> large_;  // those with more
  std::vector<float> weights_;        // of DrawDirichlet
  std::vector<Symbol> numbers_;       // 0, 1, ...
};

// Draws by one 32-bit word: the product word * columns gives the column (high half) and the fraction (low half). The
// side is an index and not a branch, which no processor could predict.
inline Symbol DrawAlias(std::uint32_t word, const AliasColumn* columns, std::uint32_t count) {
  const std::uint64_t product = static_cast<std::uint64_t>(word) * count;
  const AliasColumn& column = columns[product >> 32];
  return column.drawn[(static_cast<std::uint32_t>(product) >> 8) < column.threshold ? 0 : 1];
}

}  // namespace iterand
