#include "iterate/iteration.h"

namespace iterand {

Iteration::Iteration(const FamilyMix& mix, int max_rows)
    : mix_(mix), max_rows_(max_rows), programs_(static_cast<std::size_t>(mix.size())) {}

Iteration::RoundProgram Iteration::SampleProgram(const RandomKey& key, int fixed_family, bool readers_only) {
  int family = fixed_family;
  if (family < 0) {
    Rng rng = MakeRng(key, Purpose::kMix);
    family = mix_.Draw(rng, readers_only);
  }
  std::unique_ptr<Program>& program = programs_[static_cast<std::size_t>(family)];
  if (!program) program = mix_.family(family).NewProgram(max_rows_);
  program->set_stop(stop_);
  Rng sample = MakeRng(key, Purpose::kSampleProgram);
  program->Sample(sample);
  return {.family = family, .reads_input = mix_.family(family).reads_input(), .program = *program};
}

int Iteration::DrawPromptOffset(Rng& rng, int row_length, int prompt_length) {
  return static_cast<int>(rng.Below(static_cast<std::uint32_t>(row_length - prompt_length + 1)));
}

}  // namespace iterand
