// One random computation, sampled once, applied to many rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "randnet/block.h"
#include "randnet/rng.h"

namespace iterand {

// A program of a family, with its buffers. The object is reused: Sample draws a new program into the same memory, so
// that the steady state allocates nothing. Not thread-safe; each thread has its own.
class Program {
 public:
  virtual ~Program() = default;

  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Draws a new program from the family's prior.
  virtual void Sample(Rng& rng) = 0;

  // Tokens of prompt that the sampled program wants; 0 if it takes none. Fixed from Sample to Sample.
  virtual int prompt_length() const { return 0; }

  // Writes out.rows() sequences of out.length() symbols below the family's alphabet.
  //   input   rows x length, what the computation reads as its input string; ignored by families that do not read
  //   prompt  rows x prompt_length(), how an autoregressive program starts; it is the beginning of the output
  //   rng     keyed per row: row r depends on the program, input row r, prompt row r and rng.ForRow(r) alone
  // input, prompt and out do not overlap.
  virtual void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) = 0;

  // Marks which symbols of `row`, row `r` of the last Run of the present program, a trainer should learn to predict: 1
  // in `mask` (as long as the row), else 0. All of them, but for programs that pose tasks, which mark the answers, and
  // for padding where a recipe says so.
  virtual void MarkTargets(int /*r*/, std::span<const Symbol> /*row*/, std::span<std::uint8_t> mask) const {
    std::fill(mask.begin(), mask.end(), std::uint8_t{1});
  }

  // The sampled parameters, for people, as one line of "name=value" pairs.
  virtual std::string Describe() const = 0;

 protected:
  Program() = default;
};

}  // namespace iterand
