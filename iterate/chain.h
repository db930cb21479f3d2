// Chains: x_0 is noise or constant rows, x_{d+1} = program_d(x_d); every row of every depth >= 1 is emitted once.
//
// Round by round, with the random streams of key (seed, lane, segment, round):
//   at the start of a chain   kShape draws rows and max_depth; row r of x_0 is constant with probability
//                             initial_constant_share (kSelect), else noise; values from kConstant / kNoise, row r
//   later                     each row is replaced by noise with probability noise_share, by a constant with
//                             probability constant_share (kSelect, one uniform per row)
//   family                    the segment's or the lane's, or kMix draws one: at depth 0 any, later one that reads its
//                             input. A family that does not read its input ends its chain after one program, unless
//                             rounds draw their families and a reader can follow. So with mix ROUND the families that
//                             do not read are what chains are seeded by, beside noise and constants: a chain begins
//                             with them as often as their share of all weights says.
//   program                   kSampleProgram
//   prompts                   one common offset s uniform in [0, length - prompt_length], from other rows of x_d in a
//                             random order (kSelect, row 1)
//   trial (Band.trial)        may reject the program (iterate/trial.h): the round yields no rows and x_d stays as it
//                             is, for the next round's program
//   run                       kRunRow, row r
// No row is wasted and there is no burn-in. A new chain begins after max_depth rounds. Rounds with a rejected program
// count, so that a chain that cannot yield anything more ends.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "iterate/iteration.h"
#include "iterate/plan.h"
#include "iterate/trial.h"

namespace iterand {

class Chain final : public Iteration {
 public:
  // The plan has a chain, and must outlive this object.
  explicit Chain(const StreamPlan& plan);

  void Start(const RandomKey& key) override;
  FinishedRows Advance(const RandomKey& key) override;

 private:
  // Brings x_d to where the round's program starts: begins a chain, or moves on to the last round's output.
  void BeginRound(const RandomKey& key);
  void BeginChain(const RandomKey& key);
  void FillInitial(const RandomKey& key);
  void Refresh(const RandomKey& key);
  void SetNoise(const RandomKey& key, int row);
  void SetConstant(const RandomKey& key, int row);
  // Cuts the round's prompts from x_d, and returns their offset.
  int CutPrompts(const RandomKey& key, int prompt_length);
  // Runs the program from input_ to output_. False if a trial rejected it.
  bool Run(const RandomKey& key, Program& program);
  FinishedRows Finish(const RoundProgram& round);
  void Observe(const RoundProgram& round, int prompt_offset);

  const ChainSettings& settings_;
  const FamilyMix& mix_;
  int length_;
  int alphabet_;
  bool masked_;
  std::optional<Trial> trial_;
  std::optional<StagedTrial> staged_trial_;  // for watchable programs, instead of trial_

  int family_ = -1;        // of the segment, or -1
  int rounds_ = 0;         // of the chain
  int max_depth_ = 0;      // 0: no chain yet
  bool filled_ = false;    // x_0 has been made
  bool applied_ = false;   // a program has been applied to x_0
  bool rejected_ = false;  // the last round's program was
  Block input_;            // x_d
  Block output_;           // x_{d+1}
  Block prompt_;
  std::vector<std::uint8_t> masks_;  // of output_, if masked_
  std::vector<RowOrigin> origins_;
  std::vector<int> order_;
};

}  // namespace iterand
