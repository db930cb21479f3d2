// Relabelling: random injections of the alphabet into the vocabulary, so that token identities carry nothing over from
// one sequence (or program) to the next.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "randnet/block.h"
#include "randnet/rng.h"

namespace iterand {

// A random injection, drawn lazily: symbols get their tokens in the order in which they are first asked for, each
// uniform over the tokens not yet given. Memory is made once. Not thread-safe.
class Injection {
 public:
  // 1 <= alphabet <= vocab_size <= 2^32.
  Injection(int alphabet, std::uint64_t vocab_size);

  // Forgets what was drawn; from now on tokens are drawn from `rng`. Costs as much as was drawn.
  void Reset(const Rng& rng);

  // Writes the tokens of `symbols` to `out`; symbols that have none yet draw theirs in their order.
  template <typename Token>
  void Map(std::span<const Symbol> symbols, Token* out) {
    Draw(symbols);
    const std::uint32_t* const tokens = token_.data();
    for (std::size_t t = 0; t < symbols.size(); ++t) out[t] = static_cast<Token>(tokens[symbols[t]]);
  }

 private:
  // Gives tokens to those of `symbols` that have none yet.
  void Draw(std::span<const Symbol> symbols);
  std::uint32_t NextWord() { return next_word_ < words_.size() ? words_[next_word_++] : rng_.Next(); }
  std::uint32_t Below(std::uint64_t bound);
  std::uint32_t NextToken();

  std::uint64_t vocab_size_;
  Rng rng_;
  std::vector<std::uint8_t> known_;   // by symbol, 1 or 0
  std::vector<std::uint32_t> token_;  // by symbol
  std::vector<Symbol> drawn_;         // the first drawn_count_: symbols that have a token, in order
  std::size_t drawn_count_ = 0;
  std::vector<std::uint32_t> words_;  // the next that rng_ made, of which next_word_ are used
  std::size_t next_word_ = 0;
  // Vocabularies to 2^20: the first steps of a Fisher-Yates shuffle of all tokens, undone by Reset.
  std::vector<std::uint32_t> tokens_;
  std::vector<std::uint32_t> swapped_;
  // Larger ones: redraw a token that is taken (rare: the alphabet has at most 2^16 symbols); open addressing.
  std::vector<std::uint64_t> taken_;  // token + 1, or 0
  std::vector<std::uint32_t> slots_;  // used slots, to clear
};

}  // namespace iterand
