// One random computation, sampled once, applied to many rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "randnet/base/rng.h"
#include "randnet/block.h"
#include "randnet/run_control.h"

namespace iterand {

// Looks at the rows of a run while they are written, and can end it.
class RunWatch {
 public:
  virtual ~RunWatch() = default;
  RunWatch(const RunWatch&) = delete;
  RunWatch& operator=(const RunWatch&) = delete;

  // How many symbols all rows must have when Look is called next.
  int next() const { return next_; }
  // Called when the first next() symbols of all rows are written, where the run writes them. False: the run ends here.
  virtual bool Look() = 0;

 protected:
  RunWatch() = default;
  void set_next(int symbols) { next_ = symbols; }

 private:
  int next_ = 0;
};

// A program of a family, with its buffers. The object is reused: Sample draws a new program into the same memory, so
// that the steady state allocates nothing. Not thread-safe; each thread has its own.
class Program {
 public:
  virtual ~Program() = default;

  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Draws a new program from the family's prior.
  virtual void Sample(Rng& rng) = 0;

  // Tokens of prompt that the sampled program needs; 0 if it takes none. Fixed from Sample to Sample.
  virtual int prompt_length() const { return 0; }

  // Writes out.rows() sequences of out.length() symbols below the family's alphabet.
  //   input   rows x length, what the computation reads as its input string; ignored by families that do not read
  //   prompt  rows x prompt_length(), how an autoregressive program starts; it is the beginning of the output
  //   rng     keyed per row: row r depends on the program, input row r, prompt row r and rng.ForRow(r) alone
  // input, prompt and out do not overlap.
  virtual void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) = 0;

  // Whether the programs write all rows symbol by symbol, so that a run can be watched and ended at little cost.
  virtual bool watchable() const { return false; }
  // From now on runs of a watchable program call watch->Look(), unless they have more rows than they write side by
  // side; nullptr ends it.
  void set_watch(RunWatch* watch) { watch_ = watch; }

  // From now on Sample and Run call stop->ShouldStop() every few milliseconds. They end soon after it has returned
  // true, and then neither the program nor its rows may be used. Null: they are neither stopped nor paused.
  void set_stop(const RunControl* stop) { stop_ = stop; }

  // Marks which symbols of `row`, row `r` of the last Run of the present program, a trainer should learn to predict: 1
  // in `mask` (as long as the row), else 0. By default it marks all. Programs that pose tasks mark the answers (none
  // may be in the row), and where a recipe says so padding is not marked.
  virtual void MarkTargets(int /*r*/, std::span<const Symbol> /*row*/, std::span<std::uint8_t> mask) const {
    std::fill(mask.begin(), mask.end(), std::uint8_t{1});
  }

  // The sampled parameters, for people, as one line of "name=value" pairs.
  virtual std::string Describe() const = 0;

 protected:
  Program() = default;
  RunWatch* watch() const { return watch_; }
  const RunControl* stop() const { return stop_; }
  bool stopped() const { return stop_ != nullptr && stop_->ShouldStop(); }

  // rng.FillNormal(scale, out), in pieces between which it looks whether to stop. Then `out` is not filled.
  void FillNormal(Rng& rng, float scale, std::span<float> out) const {
    constexpr std::size_t kPiece = std::size_t{1} << 20;  // a few milliseconds
    while (out.size() > kPiece && !stopped()) {
      rng.FillNormal(scale, out.first(kPiece));
      out = out.subspan(kPiece);
    }
    rng.FillNormal(scale, out.first(std::min(out.size(), kPiece)));
  }

 private:
  RunWatch* watch_ = nullptr;
  const RunControl* stop_ = nullptr;
};

}  // namespace iterand
