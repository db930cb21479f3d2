#include "iterate/relabel.h"

#include <bit>
#include <limits>
#include <numeric>
#include <utility>

namespace iterand {
namespace {

constexpr std::uint64_t kShuffledVocabulary = std::uint64_t{1} << 20;

}  // namespace

Injection::Injection(int alphabet, std::uint64_t vocab_size)
    : vocab_size_(vocab_size), known_(static_cast<std::size_t>(alphabet)), token_(static_cast<std::size_t>(alphabet)) {
  const auto symbols = static_cast<std::size_t>(alphabet);
  drawn_.reserve(symbols);
  if (vocab_size <= kShuffledVocabulary) {
    tokens_.resize(vocab_size);
    std::iota(tokens_.begin(), tokens_.end(), 0U);
    swapped_.reserve(symbols);
  } else {
    taken_.resize(std::bit_ceil(4 * symbols));
    slots_.reserve(symbols);
  }
}

void Injection::Reset() {
  while (!swapped_.empty()) {
    std::swap(tokens_[swapped_.size() - 1], tokens_[swapped_.back()]);
    swapped_.pop_back();
  }
  for (const std::uint32_t slot : slots_) taken_[slot] = 0;
  slots_.clear();
  for (const Symbol symbol : drawn_) known_[symbol] = 0;
  drawn_.clear();
}

std::uint32_t Injection::Assign(Symbol symbol, Rng& rng) {
  std::uint32_t token = 0;
  if (!tokens_.empty()) {
    const auto i = static_cast<std::uint32_t>(swapped_.size());
    const std::uint32_t j = i + rng.Below(static_cast<std::uint32_t>(vocab_size_) - i);
    std::swap(tokens_[i], tokens_[j]);
    swapped_.push_back(j);
    token = tokens_[i];
  } else {
    const std::uint64_t mask = taken_.size() - 1;
    for (bool fresh = false; !fresh;) {
      token = vocab_size_ > std::numeric_limits<std::uint32_t>::max()
                  ? rng.Next()
                  : rng.Below(static_cast<std::uint32_t>(vocab_size_));
      std::uint64_t slot = (token * 0x9E3779B97F4A7C15U >> 32) & mask;
      while (taken_[slot] != 0 && taken_[slot] != token + std::uint64_t{1}) slot = (slot + 1) & mask;
      fresh = taken_[slot] == 0;
      if (fresh) {
        taken_[slot] = token + std::uint64_t{1};
        slots_.push_back(static_cast<std::uint32_t>(slot));
      }
    }
  }
  known_[symbol] = 1;
  token_[symbol] = token;
  drawn_.push_back(symbol);
  return token;
}

}  // namespace iterand
