// How the rows of an autoregressive program begin.
#pragma once

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "randnet/block.h"
#include "randnet/family.h"
#include "randnet/knob.h"

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

// InvalidArgument naming `path`.prompt_length if a prompt may be longer than a row.
inline absl::Status CheckPromptLength(const IntegerKnob& prompt_length, const FamilyContext& context,
                                      const std::string& path) {
  if (prompt_length.high() <= context.length) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ".prompt_length: is up to ", prompt_length.high(),
                                                 ", must be in [0, ", context.length, "], no longer than a row"));
}

}  // namespace iterand
