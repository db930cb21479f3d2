// Relabelling: random injections of the alphabet into the vocabulary, so that token identities carry nothing over from
// one sequence (or program) to the next.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "randnet/base/rng.h"
#include "randnet/block.h"

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
    // Most pieces of a row bring nothing new.
    constexpr std::size_t kPiece = 8;
    const std::uint32_t* const tokens = token_.data();
    std::size_t t = 0;
    for (; t + kPiece <= symbols.size(); t += kPiece) {
      std::uint32_t all = 0;
      for (std::size_t i = t; i < t + kPiece; ++i) {
        const std::uint32_t token = tokens[symbols[i]];
        all |= token;
        out[i] = static_cast<Token>(token);
      }
      if (all < kNone) continue;
      Draw(symbols.subspan(t, kPiece));
      for (std::size_t i = t; i < t + kPiece; ++i) out[i] = static_cast<Token>(tokens[symbols[i]]);
    }
    Draw(symbols.subspan(t));
    for (; t < symbols.size(); ++t) out[t] = static_cast<Token>(tokens[symbols[t]]);
  }

 private:
  // Stands for "no token". In very large vocabularies some tokens are this or larger: then known_ decides.
  static constexpr std::uint32_t kNone = std::uint32_t{1} << 31;

  // Gives tokens to those of `symbols` that have none yet.
  void Draw(std::span<const Symbol> symbols);
  std::uint32_t Below(std::uint64_t bound);
  std::uint32_t NextToken();

  std::uint64_t vocab_size_;
  Rng rng_;
  std::vector<std::uint8_t> known_;   // by symbol, 1 or 0
  std::vector<std::uint32_t> token_;  // by symbol; kNone if it has none
  std::vector<Symbol> drawn_;         // the symbols that have one, in order
  // Vocabularies to 2^20: the first steps of a Fisher-Yates shuffle of all tokens, undone by Reset.
  std::vector<std::uint32_t> tokens_;
  std::vector<std::uint32_t> swapped_;
  // Larger ones: redraw a token that is taken (rare: the alphabet has at most 2^16 symbols); open addressing.
  std::vector<std::uint64_t> taken_;  // token + 1, or 0
  std::vector<std::uint32_t> slots_;  // used slots, to clear
};

}  // namespace iterand
