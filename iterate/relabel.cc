#include "iterate/relabel.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

namespace iterand {
namespace {

constexpr std::uint64_t kShuffledVocabulary = std::uint64_t{1} << 20;

}  // namespace

Injection::Injection(int alphabet, std::uint64_t vocab_size)
    : vocab_size_(vocab_size),
      rng_(0, 0),
      known_(static_cast<std::size_t>(alphabet)),
      token_(static_cast<std::size_t>(alphabet), kNone) {
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

void Injection::Reset(const Rng& rng) {
  rng_ = rng;
  if (swapped_.size() * 8 > tokens_.size()) {
    std::iota(tokens_.begin(), tokens_.end(), 0U);
    swapped_.clear();
  }
  while (!swapped_.empty()) {
    std::swap(tokens_[swapped_.size() - 1], tokens_[swapped_.back()]);
    swapped_.pop_back();
  }
  for (const std::uint32_t slot : slots_) taken_[slot] = 0;
  slots_.clear();
  for (const Symbol symbol : drawn_) {
    known_[symbol] = 0;
    token_[symbol] = kNone;
  }
  drawn_.clear();
}

// Rng::Below, for bounds to 2^32.
std::uint32_t Injection::Below(std::uint64_t bound) {
  for (;;) {
    const std::uint64_t product = static_cast<std::uint64_t>(rng_.Next()) * bound;
    const auto low = static_cast<std::uint32_t>(product);
    if (low >= bound || low >= ((std::uint64_t{1} << 32) - bound) % bound) [[likely]]
      return static_cast<std::uint32_t>(product >> 32);
  }
}

std::uint32_t Injection::NextToken() {
  if (!tokens_.empty()) {
    const std::size_t i = swapped_.size();
    const std::size_t j = i + Below(vocab_size_ - i);
    std::swap(tokens_[i], tokens_[j]);
    swapped_.push_back(static_cast<std::uint32_t>(j));
    return tokens_[i];
  }
  const std::uint64_t mask = taken_.size() - 1;
  for (;;) {
    const std::uint32_t token = Below(vocab_size_);
    std::uint64_t slot = (token * 0x9E3779B97F4A7C15U >> 32) & mask;
    while (taken_[slot] != 0 && taken_[slot] != token + std::uint64_t{1}) slot = (slot + 1) & mask;
    if (taken_[slot] != 0) continue;
    taken_[slot] = token + std::uint64_t{1};
    slots_.push_back(static_cast<std::uint32_t>(slot));
    return token;
  }
}

void Injection::Draw(std::span<const Symbol> symbols) {
  for (const Symbol symbol : symbols) {
    if (known_[symbol] != 0) continue;
    known_[symbol] = 1;
    drawn_.push_back(symbol);
    token_[symbol] = NextToken();
  }
}

}  // namespace iterand
