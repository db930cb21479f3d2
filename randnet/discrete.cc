#include "randnet/discrete.h"

#include <algorithm>
#include <numeric>

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

void DrawDirichlet(Rng& rng, float concentration, std::span<float> weights) {
  for (float& weight : weights) weight = rng.LogGamma(concentration);
  const float largest = *std::max_element(weights.begin(), weights.end());
  for (float& weight : weights) weight = math::Exp(weight - largest);
}

void AliasBuilder::Reserve(std::size_t count) {
  mass_.reserve(count);
  small_.reserve(count);
  large_.reserve(count);
}

void AliasBuilder::Build(std::span<const float> weights, std::span<const Symbol> symbols,
                         std::span<AliasColumn> columns) {
  constexpr std::uint64_t kOne = std::uint64_t{1} << 24;
  const std::size_t n = weights.size();
  float sum = 0;
  for (const float weight : weights) sum += weight;
  mass_.resize(n);
  std::uint64_t total = 0;
  std::size_t largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    mass_[i] = static_cast<std::uint64_t>(weights[i] / sum * static_cast<float>(kOne));
    total += mass_[i];
    if (weights[i] > weights[largest]) largest = i;
  }
  // Rounding down leaves less than n units; float rounding can also give a few too many.
  mass_[largest] += kOne - total;
  // Scaled by n, a column holds kOne units and all columns together hold n * kOne.
  small_.clear();
  large_.clear();
  for (std::size_t i = 0; i < n; ++i) {
    mass_[i] *= n;
    (mass_[i] < kOne ? small_ : large_).push_back(static_cast<int>(i));
  }
  while (!small_.empty() && !large_.empty()) {
    const auto small = static_cast<std::size_t>(small_.back());
    const auto large = static_cast<std::size_t>(large_.back());
    small_.pop_back();
    columns[small] = {static_cast<std::uint32_t>(mass_[small]), symbols[small], symbols[large]};
    mass_[large] -= kOne - mass_[small];
    if (mass_[large] < kOne) {
      large_.pop_back();
      small_.push_back(static_cast<int>(large));
    }
  }
  // Masses are integers and sum to n * kOne, so whatever is left holds exactly one column each.
  for (const std::vector<int>* rest : {&small_, &large_}) {
    for (const int i : *rest) {
      const Symbol symbol = symbols[static_cast<std::size_t>(i)];
      columns[static_cast<std::size_t>(i)] = {static_cast<std::uint32_t>(kOne), symbol, symbol};
    }
  }
}

}  // namespace iterand
