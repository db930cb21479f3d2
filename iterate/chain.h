// Chains: x_0 is noise or constant rows, x_{d+1} = program_d(x_d); every row of every depth >= 1 is emitted once.
//
// Round by round, with the random streams of key (seed, lane, segment, round):
//   at the start of a chain   kShape draws rows and max_depth; row r of x_0 is constant with probability
//                             initial_constant_share (kSelect), else noise; values from kConstant / kNoise, row r
//   later                     each row is replaced by noise with probability noise_share, by a constant with
//                             probability constant_share (kSelect, one uniform a row)
//   family                    the segment's or the lane's, or kMix draws one: at depth 0 any, later one that reads its
//                             input. A family that does not read its input ends its chain after one program, unless
//                             rounds draw their families and a reader can follow. So with mix ROUND the families that
//                             do not read are what chains are seeded by, beside noise and constants: a chain begins
//                             with them as often as their share of all weights says.
//   program                   kSampleProgram
//   prompts                   one common offset s uniform in [0, length - prompt_length], from other rows of x_d in a
//                             random order (kSelect, row 1)
//   trial (Band.trial)        the program runs on the first `rows` rows, for the first `symbols` symbols of each. If
//                             none of these promises a row whose complexity lies within the band widened by `margin`,
//                             the program is given up: the round yields no rows and x_d stays as it is, for the next
//                             round's program. A program whose prompt takes up all those symbols is not tried. The
//                             complexity of the row is taken to be that of its n first symbols. With `extrapolate`, b
//                             being their code length and a that of the first floor(n / 2), the code length of the
//                             row's N symbols is taken to be  b + max(b - a, 0) (N - n) div (n - floor(n / 2)): a row
//                             that has become periodic will cost nothing more, however much its beginning did
//   stages (Trial.stages)     of a watchable program (randnet/program.h), instead: the run itself is looked at when all
//                             rows have n = first, 2 first, ... < N symbols, but for stages that the prompt takes up.
//                             If no row's code length, extrapolated from its n first symbols as above, lies within the
//                             band widened by margin 128 / n, the program is given up there, as after a trial
//   run                       kRunRow, row r
// No row is wasted and there is no burn-in: a new chain begins after max_depth rounds, those given up included, so that
// a chain that nothing more can come of ends.
#pragma once

#include <memory>
#include <optional>

#include "iterate/complexity.h"
#include "iterate/iteration.h"
#include "randnet/knob.h"

namespace iterand {

class Chain final : public Iteration {
 public:
  static constexpr int kMaxRows = 1024;
  static constexpr int kMaxDepth = 1024;

  // `recipe` is resolved and its chain checked (CheckChain); `mix` must outlive the chain.
  static absl::StatusOr<std::unique_ptr<Iteration>> Make(const v1::Recipe& recipe, const FamilyMix& mix);

  // Checks the message; errors name fields below "chain".
  static absl::Status Check(const v1::Chain& config);
  // Writes every default into the message.
  static void Resolve(v1::Chain& config);
  // Ends of the rows of a checked message.
  static int MinRows(const v1::Chain& config);
  static int MaxRows(const v1::Chain& config);
  // Of a resolved recipe: memory of the rows that a chain works on.
  static double RowBytes(const v1::Recipe& recipe);

  void Start(const RandomKey& key) override;
  FinishedRows Advance(const RandomKey& key) override;
  ~Chain() override;

 private:
  Chain(const v1::Recipe& recipe, const FamilyMix& mix, IntegerKnob rows, IntegerKnob depth);

  void Begin(const RandomKey& key);
  void FillInitial(const RandomKey& key);
  void Refresh(const RandomKey& key);
  bool Promising(const RandomKey& key, Program& program);
  bool RunInStages(const RandomKey& key, Program& program);
  void SetNoise(const RandomKey& key, int row);
  void SetConstant(const RandomKey& key, int row);

  const FamilyMix& mix_;
  ProgramSet programs_;
  IntegerKnob rows_knob_;
  IntegerKnob depth_knob_;
  int length_;
  int alphabet_;
  // Probabilities in units of 2^-24.
  std::uint32_t initial_constant_;
  std::uint32_t noise_;
  std::uint32_t noise_or_constant_;

  // Of Band.trial; no trial without a meter.
  std::unique_ptr<ComplexityMeter> trial_meter_;
  std::optional<ComplexityBand> trial_band_;
  int trial_rows_ = 0;
  int trial_symbols_ = 0;
  bool extrapolate_ = false;
  Block trial_output_;

  class Stages;
  std::unique_ptr<Stages> stages_;  // of Band.trial, if it has them

  int family_ = -1;        // of the segment, or -1
  int rounds_ = 0;         // of the chain
  int max_depth_ = 0;      // 0: no chain yet
  bool filled_ = false;    // x_0 has been made
  bool applied_ = false;   // a program has been applied to x_0
  bool given_up_ = false;  // the last round's program was
  Block input_;            // x_d
  Block output_;           // x_{d+1}
  Block prompt_;
  bool masked_;
  std::vector<std::uint8_t> masks_;  // of output_, if masked_
  std::vector<RowOrigin> origins_;
  std::vector<int> order_;
};

}  // namespace iterand
