// Padding by repetition.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "randnet/block.h"

namespace iterand {

// Fills a row by repeating its first `written` symbols; with none written, the row becomes all symbol 0.
inline void RepeatToFill(std::span<Symbol> row, std::size_t written) {
  if (written == 0) {
    std::fill(row.begin(), row.end(), Symbol{0});
    return;
  }
  // What has been written is a whole number of periods, so it can be copied in doubling pieces.
  for (std::size_t have = written; have < row.size();) {
    const std::size_t piece = std::min(have, row.size() - have);
    std::copy_n(row.begin(), piece, row.begin() + static_cast<std::ptrdiff_t>(have));
    have += piece;
  }
}

}  // namespace iterand
