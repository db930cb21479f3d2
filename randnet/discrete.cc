#include "randnet/discrete.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include "randnet/gamma_simd.h"
#include "randnet/math.h"

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

void DrawLogGammas(Rng& rng, float shape, std::span<float> out) {
  const bool boosts = shape < 1.0F;
  const float d = (boosts ? shape + 1.0F : shape) - 1.0F / 3.0F;
  const float c = 1.0F / std::sqrt(9.0F * d);
  const float log_d = math::Log(d);
  // The vector code works on whole vectors, so what lies behind a short chunk must be there too.
  constexpr std::size_t kBehind = internal::kGammaLanes;
  std::array<std::uint32_t, 3 * internal::kGammaChunk + kBehind> words;
  std::array<std::uint32_t, internal::kGammaChunk + kBehind> accepted;
  std::array<float, internal::kGammaChunk + kBehind> values;
  for (std::size_t first = 0; first < out.size(); first += internal::kGammaChunk) {
    const std::size_t n = std::min(internal::kGammaChunk, out.size() - first);
    const std::size_t count = (boosts ? 3 : 2) * n;
    rng.Fill({words.data(), count});
    std::fill_n(words.data() + count, kBehind, 0U);
    internal::ProposeGammas(d, c, words.data(), words.data() + n, values.data(), accepted.data(), n);
    for (std::size_t i = 0; i < n; ++i) values[i] = log_d + values[i];
    for (std::size_t i = 0; i < n; ++i) {
      if (accepted[i] == 0) [[unlikely]]
        values[i] = log_d + ProposeUntilAccepted(rng, d, c);
    }
    if (boosts) internal::AddBoost(shape, words.data() + 2 * n, values.data(), n);
    std::copy_n(values.data(), n, out.data() + first);
  }
}

void ExpBelowLargest(std::span<float> values) {
  internal::ExpBelow(*std::max_element(values.begin(), values.end()), values.data(), values.size());
}

void DrawDirichlet(Rng& rng, float concentration, std::span<float> weights) {
  DrawLogGammas(rng, concentration, weights);
  ExpBelowLargest(weights);
}

void AliasBuilder::Reserve(std::size_t count) {
  if (units_.size() >= count) return;
  units_.resize(count);
  mass_.resize(count);
  small_.resize(count);
  large_.resize(count);
}

void AliasBuilder::Build(std::span<const float> weights, std::span<const Symbol> symbols,
                         std::span<AliasColumn> columns) {
  constexpr std::uint32_t kOne = 1U << 24;
  const std::size_t n = weights.size();
  float sum = 0;
  std::int32_t largest_bits = 0;  // floats that are not negative are ordered as their bits are
  for (const float weight : weights) {
    sum += weight;
    largest_bits = std::max(largest_bits, std::bit_cast<std::int32_t>(weight));
  }
  const float largest_weight = std::bit_cast<float>(largest_bits);
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
    mass_[i] = mass;
    small_[small_count] = static_cast<std::uint32_t>(i);
    large_[large_count] = static_cast<std::uint32_t>(i);
    const std::size_t small = mass < kOne ? 1 : 0;
    small_count += small;
    large_count += 1 - small;
  }
  if (small_count > 0 && large_count > 0) {
    std::size_t large = large_[large_count - 1];
    std::uint64_t left = mass_[large];
    for (;;) {
      const std::size_t small = small_[small_count - 1];
      columns[small] = {static_cast<std::uint32_t>(mass_[small]), {symbols[small], symbols[large]}};
      left -= kOne - mass_[small];
      if (left < kOne) {
        // The large one takes the place of the small one.
        mass_[large] = left;
        small_[small_count - 1] = static_cast<std::uint32_t>(large);
        if (--large_count == 0) break;
        large = large_[large_count - 1];
        left = mass_[large];
      } else if (--small_count == 0) {
        break;
      }
    }
  }
  // Masses are integers and sum to n * kOne, so whatever is left holds exactly one column each.
  for (const auto& [rest, count] : {std::pair(&small_, small_count), std::pair(&large_, large_count)}) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t column = (*rest)[i];
      columns[column] = {kOne, {symbols[column], symbols[column]}};
    }
  }
}

}  // namespace iterand
