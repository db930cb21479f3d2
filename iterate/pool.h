// The pool: the algorithm of Bloem 2025 (arXiv 2506.20057), as its program runs it.
//
// A pool of rows, all constant at the start (each its own token). Round by round, with the random streams of the
// round's key:
//   1. kSelect draws constant_rows + noise_rows distinct rows. The first are overwritten by constants (kConstant, row
//      i), the others by noise (kNoise, row i).
//   2. The family is the segment's or lane's, or drawn by kMix; kSampleProgram samples the program.
//   3. kSelect (row 1) draws the common offset of the prompts, uniform in [0, length - prompt_length], then
//      program_rows distinct rows that the prompts are cut from, then program_rows distinct rows that are the inputs.
//   4. The outputs overwrite the input rows.
//   5. Emission SAMPLE: kSelect (row 2) draws emit_rows distinct rows of the pool, copies of which are emitted; so a
//      row may be emitted several times or never. EVICT: a generated row is emitted once, when a step overwrites it.
// With iterate = false (the paper's ablation) prompts and inputs are not rows of the pool but fresh rows, constant with
// probability constant_rows / (constant_rows + noise_rows), else noise.
//
// The depth of a row is geometric. A pool that is not `endless` starts again with every segment.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "iterate/iteration.h"
#include "iterate/plan.h"

namespace iterand {

// What a round leaves for the next one: all that is needed to continue.
struct PoolState {
  Block rows;
  std::vector<RowOrigin> origins;  // one per row
};

class Pool final : public Iteration {
 public:
  // The plan has a pool, and must outlive this object.
  explicit Pool(const StreamPlan& plan);

  void Start(const RandomKey& key) override;
  FinishedRows Advance(const RandomKey& key) override;

  // For endless pools: to store a pool and to continue from it.
  const PoolState& state() const { return state_; }
  void set_state(const PoolState& state, const RandomKey& key);

 private:
  // Draws `count` distinct rows of the pool; valid until the next call.
  std::span<const int> DrawRows(Rng& rng, int count);
  // Step 1: overwrites rows of the pool by fresh ones.
  void Refresh(const RandomKey& key);
  // Step 3: writes prompts and inputs, and returns the prompts' offset.
  int CutPrompts(const RandomKey& key, int prompt_length);
  // Step 4: overwrites the input rows of the pool by the outputs.
  void WriteBack(const RoundProgram& round);
  void Emit(int row);
  // Emits a row that is about to be overwritten, if it was generated and emission is EVICT.
  void Evict(int row);
  // Writes a fresh row of the ablation, and returns whether it is constant.
  bool FreshRow(const RandomKey& key, int row, Symbol* out);

  const PoolSettings& settings_;
  const FamilyMix& mix_;
  int length_;
  int alphabet_;
  int family_ = -1;  // of the segment, or -1
  PoolState state_;
  Block input_;
  Block prompt_;
  Block output_;
  Block finished_;
  std::vector<RowOrigin> finished_origins_;
  int finished_count_ = 0;
  std::vector<int> order_;
  std::vector<int> targets_;  // by row of the program: the row of the pool that it reads and overwrites
  std::vector<std::uint8_t> constant_inputs_;  // by row of the program, with iterate = false
};

}  // namespace iterand
