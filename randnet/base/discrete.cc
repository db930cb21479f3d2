#include "randnet/base/discrete.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "randnet/base/gamma_kernels.h"
#include "randnet/base/math.h"

namespace iterand {

void DrawDistinct(Rng& rng, int alphabet, int count, std::vector<Symbol>& scratch, std::span<Symbol> out) {
  scratch.resize(static_cast<std::size_t>(alphabet));
  std::iota(scratch.begin(), scratch.end(), Symbol{0});
  for (int i = 0; i < count; ++i) {
    const std::size_t j = static_cast<std::size_t>(i) + rng.Below(static_cast<std::uint32_t>(alphabet - i));
    std::swap(scratch[static_cast<std::size_t>(i)], scratch[j]);
    out[static_cast<std::size_t>(i)] = scratch[static_cast<std::size_t>(i)];
  }
}

float ProposeUntilAccepted(Rng& rng, float d, float c) {
  // At least 95 % of the proposals are accepted; the bound keeps the work finite whatever the generator returns.
  for (int attempt = 0; attempt < 100; ++attempt) {
    const float x = rng.Normal();
    const float root = std::fma(c, x, 1.0F);
    const float log_u = math::Log(rng.UniformPositive());
    if (root <= 0.0F) continue;
    const float v = root * root * root;
    const float proposal = math::Log(v);
    if (log_u < std::fma(0.5F * x, x, d * (1.0F - v + proposal))) return proposal;
  }
  return 0.0F;
}

GammaShape::GammaShape(float gamma_shape)
    : shape(gamma_shape),
      boosts(gamma_shape < 1.0F),
      d((boosts ? shape + 1.0F : shape) - 1.0F / 3.0F),
      c(1.0F / std::sqrt(9.0F * d)),
      log_d(math::Log(d)) {}

void DrawLogGammas(Rng& rng, const GammaShape& shape, std::span<float> out) {
  std::array<float, internal::kGammaChunk + internal::kGammaLanes> values;
  std::array<float, internal::kGammaChunk + internal::kGammaLanes> boosts;
  for (std::size_t first = 0; first < out.size(); first += internal::kGammaChunk) {
    const std::size_t n = std::min(internal::kGammaChunk, out.size() - first);
    std::uint64_t rejected =
        internal::ProposeLogGammas(shape, rng.state(), rng.increment(), values.data(), boosts.data(), n);
    const std::size_t words = (shape.boosts ? 3 : 2) * n;
    rng.set_state(kPcgJumps.power[words] * rng.state() + kPcgJumps.sum[words] * rng.increment());
    for (; rejected != 0; rejected &= rejected - 1) {
      values[static_cast<std::size_t>(std::countr_zero(rejected))] =
          shape.log_d + ProposeUntilAccepted(rng, shape.d, shape.c);
    }
    float* const chunk = out.data() + first;
    if (shape.boosts) {
      for (std::size_t i = 0; i < n; ++i) chunk[i] = values[i] + boosts[i];
    } else {
      std::copy_n(values.data(), n, chunk);
    }
  }
}

void ExpBelowLargest(std::span<float> values) { internal::ExpBelowLargest(values.data(), values.size()); }

void DrawDirichlet(Rng& rng, const GammaShape& concentration, std::span<float> weights) {
  DrawLogGammas(rng, concentration, weights);
  ExpBelowLargest(weights);
}

void AliasBuilder::DrawDirichlet(Rng& rng, const GammaShape& concentration, std::span<AliasColumn> columns) {
  const std::size_t n = columns.size();
  if (n <= internal::kGammaChunk &&
      internal::DrawDirichletTable(concentration, {rng.state(), rng.increment(), columns.data()}, n)) {
    return;
  }
  weights_.resize(n);
  iterand::DrawDirichlet(rng, concentration, weights_);
  numbers_.resize(n);
  std::iota(numbers_.begin(), numbers_.end(), Symbol{0});
  Build(weights_, numbers_, columns);
}

void AliasBuilder::DrawTwoDirichlets(Rng& first_rng, Rng& second_rng, const GammaShape& concentration,
                                     std::span<AliasColumn> first, std::span<AliasColumn> second) {
  const internal::DirichletTable tables[] = {{first_rng.state(), first_rng.increment(), first.data()},
                                             {second_rng.state(), second_rng.increment(), second.data()}};
  if (first.size() <= internal::kGammaChunk && internal::DrawTwoDirichletTables(concentration, tables, first.size())) {
    return;
  }
  DrawDirichlet(first_rng, concentration, first);
  DrawDirichlet(second_rng, concentration, second);
}

void AliasBuilder::Reserve(std::size_t count) {
  if (units_.size() >= count) return;
  units_.resize(count);
  small_.resize(count);
  large_.resize(count);
  weights_.reserve(count);
  numbers_.reserve(count);
}

void AliasBuilder::Build(std::span<const float> weights, std::span<const Symbol> symbols,
                         std::span<AliasColumn> columns) {
  constexpr std::uint32_t kOne = 1U << 24;
  const std::size_t n = weights.size();
  float sum = 0;
  for (const float weight : weights) sum += weight;
  std::int32_t largest_bits = 0;  // floats that are not negative are ordered as their bits are
  for (const float weight : weights) largest_bits = std::max(largest_bits, std::bit_cast<std::int32_t>(weight));
  const auto largest_weight = std::bit_cast<float>(largest_bits);
  Reserve(n);
  std::int32_t total = 0;
  for (std::size_t i = 0; i < n; ++i) {
    units_[i] = static_cast<std::int32_t>(weights[i] / sum * static_cast<float>(kOne));
    total += units_[i];
  }
  std::size_t largest = 0;
  while (weights[largest] < largest_weight) ++largest;
  // Rounding down leaves less than n units; float rounding can also give a few too many.
  units_[largest] += static_cast<std::int32_t>(kOne) - total;
  // Scaled by n, a column holds kOne units and all columns together hold n * kOne.
  std::size_t small_count = 0;
  std::size_t large_count = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t mass = static_cast<std::uint64_t>(units_[i]) * n;
    small_[small_count] = mass << 32 | i;
    large_[large_count] = static_cast<std::uint32_t>(i);
    const std::size_t small = mass < kOne ? 1 : 0;
    small_count += small;
    large_count += 1 - small;
  }
  if (small_count > 0 && large_count > 0) {
    std::size_t large = large_[large_count - 1];
    std::uint64_t left = static_cast<std::uint64_t>(units_[large]) * n;
    for (;;) {
      const std::uint64_t small = small_[small_count - 1];
      const auto mass = static_cast<std::uint32_t>(small >> 32);
      const auto column = static_cast<std::uint32_t>(small);
      columns[column] = {mass, {symbols[column], symbols[large]}};
      left -= kOne - mass;
      if (left < kOne) {
        // The large one takes the place of the small one.
        small_[small_count - 1] = left << 32 | large;
        if (--large_count == 0) break;
        large = large_[large_count - 1];
        left = static_cast<std::uint64_t>(units_[large]) * n;
      } else if (--small_count == 0) {
        break;
      }
    }
  }
  // Masses are integers and sum to n * kOne, so whatever is left holds exactly one column each.
  const auto fill = [&](std::size_t column) { columns[column] = {kOne, {symbols[column], symbols[column]}}; };
  for (std::size_t i = 0; i < small_count; ++i) fill(static_cast<std::uint32_t>(small_[i]));
  for (std::size_t i = 0; i < large_count; ++i) fill(large_[i]);
}

}  // namespace iterand
