// Trials (Band.trial): reject a program whose rows would not pass the band, before or while it runs.
//
// trial     The program runs on the first `rows` rows, for the first `symbols` symbols of each. If none of these
//           promises a row whose complexity lies within the band widened by `margin`, the program is rejected. A
//           program whose prompt takes up all those symbols passes without a trial. The complexity of the row is taken
//           to be that of its n first symbols. With `extrapolate`, b being their code length and a that of the first
//           floor(n / 2), the code length of the row's N symbols is taken to be
//             b + max(b - a, 0) (N - n) div (n - floor(n / 2)):
//           a row that has become periodic will cost nothing more, however much its beginning did.
// stages    (Trial.stages) A watchable program (randnet/program.h) is judged during its run instead, when all rows have
//           n = first, 2 first, ... < N symbols, except at stages that the prompt takes up. If no row's code length,
//           extrapolated from its n first symbols as above, lies within the band widened by margin 128 / n, the program
//           is rejected there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "iterate/complexity.h"
#include "iterate/plan.h"
#include "randnet/base/rng.h"
#include "randnet/block.h"
#include "randnet/program.h"

namespace iterand {

// The rows that a program is to run on.
struct TrialRows {
  const Block& input;
  const Block& prompt;
  const RandomKey& key;
};

// A trial before the run. Not thread-safe.
class Trial {
 public:
  // The plan's recipe has a band with a trial.
  explicit Trial(const StreamPlan& plan);

  // Whether the program passes. Adds the symbols that it writes to `generated`.
  bool Passes(Program& program, const TrialRows& rows, std::uint64_t& generated);

 private:
  int length_;  // symbols of a row
  int rows_;
  int symbols_;
  bool extrapolate_;
  ComplexityMeter meter_;
  ComplexityBand band_;
  Block output_;
};

// Judges a program at stages of its run. Not thread-safe.
class StagedTrial final : public RunWatch {
 public:
  // The plan's recipe has a band with a trial that has stages.
  explicit StagedTrial(const StreamPlan& plan);

  // Runs a watchable program into `output` and returns whether it passes. Adds the symbols that it writes to
  // `generated`.
  bool Run(Program& program, const TrialRows& rows, Block& output, std::uint64_t& generated);

  bool Look() override;

 private:
  struct Stage {
    int symbols;
    ComplexityBand band;
  };

  // Skips the stages that a prompt takes up.
  void Begin(BlockView output, int prompt_length);
  // Past the end of the rows if there is no further stage.
  void SetNext() { set_next(stage_ < stages_.size() ? stages_[stage_].symbols : length_ + 1); }

  ComplexityMeter meter_;
  int length_;
  std::vector<Stage> stages_;
  std::size_t stage_ = 0;
  BlockView output_;
  bool passes_ = true;
};

}  // namespace iterand
