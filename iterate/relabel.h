// Relabelling: random injections of the alphabet into the vocabulary, so that token identities carry nothing over from
// one sequence (or program) to the next.
#pragma once

#include <cstdint>
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

  // Forgets what was drawn. Costs as much as was drawn.
  void Reset();

  // The token of a symbol; draws it from `rng` if it has none yet.
  std::uint32_t Map(Symbol symbol, Rng& rng) { return known_[symbol] != 0 ? token_[symbol] : Assign(symbol, rng); }

 private:
  std::uint32_t Assign(Symbol symbol, Rng& rng);

  std::uint64_t vocab_size_;
  std::vector<std::uint8_t> known_;   // by symbol
  std::vector<std::uint32_t> token_;  // by symbol
  std::vector<Symbol> drawn_;         // symbols that have a token, in order
  // Vocabularies to 2^20: the first steps of a Fisher-Yates shuffle of all tokens, undone by Reset.
  std::vector<std::uint32_t> tokens_;
  std::vector<std::uint32_t> swapped_;
  // Larger ones: redraw a token that is taken (rare: the alphabet has at most 2^16 symbols); open addressing.
  std::vector<std::uint64_t> taken_;  // token + 1, or 0
  std::vector<std::uint32_t> slots_;  // used slots, to clear
};

}  // namespace iterand
