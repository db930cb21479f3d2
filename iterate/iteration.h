// Rounds: how sampled programs are applied, one after another, to rows that began as noise.
//
// Two strategies behind one interface, "advance one round -> finished rows":
//   chain (iterate/chain.h)  x_{d+1} = program_d(x_d); every row of every depth is emitted once
//   pool (iterate/pool.h)    the paper's algorithm (Bloem 2025, arXiv 2506.20057)
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "iterate/family_mix.h"
#include "iterate/provenance.h"
#include "randnet/base/rng.h"
#include "randnet/block.h"
#include "randnet/program.h"
#include "randnet/run_control.h"

namespace iterand {

// The rows that a round finished. Views into the iteration's buffers, valid until the next round.
struct FinishedRows {
  BlockView rows;
  std::span<const RowOrigin> origins;  // one per row
  // rows x symbols, 1 where a symbol is to be predicted (Program::MarkTargets); empty unless the recipe has loss_mask.
  BasicBlockView<const std::uint8_t> masks;
  bool rejected = false;  // there are no rows because a trial rejected the program (Band.trial)

  const std::uint8_t* mask(int r) const { return masks.rows() > 0 ? masks.row(r) : nullptr; }
};

// One run of a program. All references are valid during the call of RoundObserver::OnRun.
struct ProgramRun {
  int family = 0;
  const Program& program;
  // By row of the program: the slot that was its input and takes its output. Empty if a trial rejected the program.
  std::span<const int> slots;
  // By row: 1 if the input was a fresh constant row and 0 if it was fresh noise. Empty if inputs come from slots.
  std::span<const std::uint8_t> constant_inputs;
  int prompt_offset = 0;
  const Block& input;
  const Block& prompt;
};

// Follows the rows of an iteration. A slot is where a row stays from round to round: the row's number in a chain or a
// pool. The calls come in the order in which things happen.
class RoundObserver {
 public:
  virtual ~RoundObserver() = default;
  // A slot was overwritten by a constant row or by noise.
  virtual void OnFresh(int slot, bool constant) = 0;
  // A program ran, and its outputs have overwritten its slots.
  virtual void OnRun(const ProgramRun& run) = 0;
  // The row in a slot became the round's next finished row.
  virtual void OnEmit(int slot) = 0;
};

// One process of rounds, with its buffers. Not thread-safe.
class Iteration {
 public:
  virtual ~Iteration() = default;
  Iteration(const Iteration&) = delete;
  Iteration& operator=(const Iteration&) = delete;

  // Starts again from fresh noise; key.round is ignored.
  virtual void Start(const RandomKey& key) = 0;
  // Computes a round; `key` has the same seed, lane and segment as at Start, and rounds count up from 0. A round
  // depends on the key and on the state that earlier rounds left.
  virtual FinishedRows Advance(const RandomKey& key) = 0;

  // Symbols that programs wrote since the last call, including those of trials and of rows that are dropped later.
  std::uint64_t TakeGenerated() { return std::exchange(generated_, 0); }

  // From now on a round calls stop->ShouldStop() every few milliseconds. It ends soon after that has returned true, and
  // then neither its rows nor the state that it leaves may be used. Null: rounds are neither stopped nor paused.
  void set_stop(const RunControl* stop) { stop_ = stop; }
  bool stopped() const { return stop_ != nullptr && stop_->ShouldStop(); }

  // Reports what the following rounds do to `observer`, which must outlive them. Pass nullptr to clear.
  void set_observer(RoundObserver* observer) { observer_ = observer; }

 protected:
  // The program of a round, sampled.
  struct RoundProgram {
    int family;
    bool reads_input;
    Program& program;
  };

  // `mix` must outlive the iteration; max_rows bounds the rows of every run.
  Iteration(const FamilyMix& mix, int max_rows);

  // Chooses a round's family and samples its program: the segment's or lane's family (FamilyMix::Fixed), or if that is
  // -1 a draw from kMix, of readers only if asked. The program is sampled from kSampleProgram.
  RoundProgram SampleProgram(const RandomKey& key, int fixed_family, bool readers_only);

  // The common offset of a round's prompts, uniform in [0, row_length - prompt_length].
  static int DrawPromptOffset(Rng& rng, int row_length, int prompt_length);

  const RunControl* stop_ = nullptr;
  RoundObserver* observer_ = nullptr;
  std::uint64_t generated_ = 0;

 private:
  const FamilyMix& mix_;
  int max_rows_;
  std::vector<std::unique_ptr<Program>> programs_;  // by family, made when first needed
};

}  // namespace iterand
