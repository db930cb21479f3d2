// How an autoregressive program's rows begin.
#pragma once

#include <algorithm>

#include "randnet/block.h"

namespace iterand {

// Begins each row of `out` with its prompt (rows x any length, cut to the row's), or with the input's first symbol
// where there is no prompt. Returns how many symbols that are, at least 1: the program writes the rest.
inline int BeginRows(BlockView input, BlockView prompt, MutableBlockView out) {
  const int start = std::min(prompt.length(), out.length());
  for (int r = 0; r < out.rows(); ++r) {
    if (start == 0) {
      out.row(r)[0] = input.row(r)[0];
    } else {
      std::copy_n(prompt.row(r), start, out.row(r));
    }
  }
  return std::max(start, 1);
}

}  // namespace iterand
