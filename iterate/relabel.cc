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
      token_(static_cast<std::size_t>(alphabet)),
      drawn_(static_cast<std::size_t>(alphabet) + 1) {
  const auto symbols = static_cast<std::size_t>(alphabet);
  words_.reserve(symbols);
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
  for (std::size_t i = 0; i < drawn_count_; ++i) known_[drawn_[i]] = 0;
  drawn_count_ = 0;
}

// Rng::Below, for bounds to 2^32.
std::uint32_t Injection::Below(std::uint64_t bound) {
  for (;;) {
    const std::uint64_t product = NextWord() * bound;
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
  // Most pieces of a row bring nothing new, which is cheap to see. In those that do, it is found without branches:
  // where a symbol first occurs, no processor can foresee.
  constexpr std::size_t kPiece = 8;
  Symbol* const drawn = drawn_.data();
  std::uint8_t* const known = known_.data();
  std::size_t count = drawn_count_;
  for (std::size_t first = 0; first < symbols.size(); first += kPiece) {
    const std::span<const Symbol> piece = symbols.subspan(first, std::min(kPiece, symbols.size() - first));
    std::size_t old = 0;
    for (const Symbol symbol : piece) old += known[symbol];
    if (old == piece.size()) continue;
    for (const Symbol symbol : piece) {
      drawn[count] = symbol;
      count += 1U - known[symbol];
      known[symbol] = 1;
    }
  }
  // Each needs one word, and all but a few no more.
  words_.resize(count - drawn_count_);
  rng_.Fill(words_);
  next_word_ = 0;
  for (; drawn_count_ < count; ++drawn_count_) token_[drawn[drawn_count_]] = NextToken();
}

}  // namespace iterand
