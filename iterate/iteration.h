// Rounds: how sampled programs are applied, one after another, to rows that began as noise.
//
// Two strategies behind one interface, "advance one round -> finished rows":
//   chain (iterate/chain.h)  x_{d+1} = program_d(x_d); every row of every depth is emitted once
//   pool (iterate/pool.h)    the paper's algorithm (Bloem 2025, arXiv 2506.20057)
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "randnet/block.h"
#include "randnet/family.h"
#include "randnet/rng.h"
#include "randnet/run_control.h"

namespace iterand {

// The families of a recipe with their weights. Immutable, shared by all threads.
class FamilyMix {
 public:
  // From a resolved recipe. Errors name the field, as Family's make function does.
  static absl::StatusOr<FamilyMix> Make(const v1::Recipe& recipe);

  int size() const { return static_cast<int>(families_.size()); }
  const Family& family(int i) const { return *families_[static_cast<std::size_t>(i)]; }
  const std::string& name(int i) const { return names_[static_cast<std::size_t>(i)]; }
  double share(int i) const;  // weight / sum of weights
  bool any_reads_input() const { return reader_total_ > 0; }

  // The family of a segment or lane, by the recipe's mix; -1 if every round draws its own.
  int Fixed(const RandomKey& key) const;
  // Draws a family by weight: of all families, or only of those that read their input (there must be one).
  int Draw(Rng& rng, bool readers_only) const;

 private:
  std::vector<std::unique_ptr<Family>> families_;
  std::vector<std::string> names_;
  // Weights as integers (units of 2^-20 of the largest), and their sums.
  std::vector<std::uint32_t> weights_;
  std::uint32_t total_ = 0;
  std::uint32_t reader_total_ = 0;
  v1::Recipe::Mix mix_ = v1::Recipe::SEGMENT;
  std::vector<std::uint16_t> lane_family_;  // mix LANE
};

// The program objects of one thread, made when first needed and then sampled anew each round.
class ProgramSet {
 public:
  ProgramSet(const FamilyMix& mix, int max_rows) : mix_(mix), max_rows_(max_rows) {
    programs_.resize(static_cast<std::size_t>(mix.size()));
  }
  Program& Get(int family);

 private:
  const FamilyMix& mix_;
  int max_rows_;
  std::vector<std::unique_ptr<Program>> programs_;
};

// Which family made a row last, and how many programs it has passed through since it was noise.
struct RowOrigin {
  std::uint16_t family = 0;
  std::uint16_t depth = 0;
};

// The rows that a round finished. Views into the iteration's buffers, valid until the next round.
struct FinishedRows {
  BlockView rows;
  std::span<const RowOrigin> origins;  // one a row
  // rows x symbols, 1 where a symbol is to be predicted (Program::MarkTargets); empty unless the recipe has loss_mask.
  BasicBlockView<const std::uint8_t> masks;
  bool given_up = false;  // there are none because the program was given up (Band.trial)

  const std::uint8_t* mask(int r) const { return masks.rows() > 0 ? masks.row(r) : nullptr; }
};

// What a round did, for explanations. A slot is a place that holds a row from round to round: a row of the chain, or a
// row of the pool.
struct RoundTrace {
  struct Fresh {
    int slot;
    bool constant;  // else noise
  };
  int family = 0;
  std::string program;       // Program::Describe
  bool restarted = false;    // all slots were forgotten first: a new chain began
  std::vector<Fresh> fresh;  // slots that were overwritten before the program ran
  // By row of the program: the slot that was its input and took its output; empty if the program was given up.
  std::vector<int> slots;
  // Where prompts and inputs were fresh rows instead, by row of the program: whether its input was constant, else
  // noise.
  std::vector<bool> constant_inputs;
  int prompt_length = 0;
  int prompt_offset = 0;
  std::vector<int> emitted;     // by finished row: its slot
  bool emitted_before = false;  // the slots were emitted as they were before this round
  Block input;                  // rows of the program
  Block prompt;
  Block output;
};

// One process of rounds, with its buffers. Not thread-safe.
class Iteration {
 public:
  virtual ~Iteration() = default;
  Iteration(const Iteration&) = delete;
  Iteration& operator=(const Iteration&) = delete;

  // Starts anew from fresh noise; key.round is ignored.
  virtual void Start(const RandomKey& key) = 0;
  // Computes a round; `key` has the same seed, lane and segment as at Start, and rounds count up from 0. A round
  // depends on the key and the state that the rounds before left.
  virtual FinishedRows Advance(const RandomKey& key) = 0;

  // Symbols that programs wrote since the last call, those of trials and of rows that are dropped later too.
  std::uint64_t TakeGenerated() { return std::exchange(generated_, 0); }

  // From now on a round calls stop->ShouldStop() every few milliseconds. It ends soon after that has returned true, and
  // then neither its rows nor the state that it leaves may be used. Null: rounds are neither stopped nor paused.
  void set_stop(const RunControl* stop) { stop_ = stop; }
  bool stopped() const { return stop_ != nullptr && stop_->ShouldStop(); }

  // From now on Advance also writes what it does to `trace`, which must stay; nullptr ends it.
  void set_trace(RoundTrace* trace) { trace_ = trace; }

 protected:
  Iteration() = default;

  const RunControl* stop_ = nullptr;
  RoundTrace* trace_ = nullptr;
  std::uint64_t generated_ = 0;
};

// Largest number of rows that one round of a resolved recipe computes, and that it finishes.
int MaxProgramRows(const v1::Recipe& recipe);

// The iteration of a resolved recipe.
absl::StatusOr<std::unique_ptr<Iteration>> MakeIteration(const v1::Recipe& recipe, const FamilyMix& mix);

}  // namespace iterand
