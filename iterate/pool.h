// The pool: the algorithm of Bloem 2025 (arXiv 2506.20057), as its program runs it.
//
// A pool of rows, all constant at the start (each its own token). Round by round, with the random streams of the
// round's key:
//   1. kSelect draws constant_rows + noise_rows distinct rows; the first are overwritten by constants (kConstant, row
//   i),
//      the others by noise (kNoise, row i)
//   2. the family is the segment's or lane's, or drawn by kMix; kSampleProgram samples the program
//   3. kSelect (row 1) draws the common offset of the prompts, uniform in [0, length - prompt_length], then
//   program_rows
//      distinct rows that the prompts are cut from, then program_rows distinct rows that are the inputs
//   4. the outputs overwrite the input rows
//   5. emission SAMPLE: kSelect (row 2) draws emit_rows distinct rows of the pool, copies of which are emitted; so a
//   row may
//      be emitted several times or never. EVICT: a generated row is emitted once, when a step overwrites it.
// With iterate = false (the paper's ablation) prompts and inputs are not rows of the pool but fresh rows, constant with
// probability constant_rows / (constant_rows + noise_rows), else noise.
//
// The depth of a row is geometric. A pool that is not `endless` starts anew with every segment.
#pragma once

#include "iterate/iteration.h"

namespace iterand {

// What a round leaves behind for the next: enough to go on from.
struct PoolState {
  Block rows;
  std::vector<RowOrigin> origins;  // one a row
};

class Pool final : public Iteration {
 public:
  static constexpr int kMaxPoolRows = 65536;
  static constexpr int kMaxProgramRows = 4096;

  // `recipe` is resolved and its pool checked; `mix` must outlive the pool.
  Pool(const v1::Recipe& recipe, const FamilyMix& mix);

  // Checks the message; errors name fields below "pool".
  static absl::Status Check(const v1::Pool& config);
  // Writes every default into the message.
  static void Resolve(v1::Pool& config);

  // Of resolved messages: how many rows are generated for one that is emitted, the most that a round emits, and the
  // fewest rounds that emit so many and the most.
  static double RowsPerEmitted(const v1::Pool& config);
  static std::int64_t MostEmitted(const v1::Pool& config);
  static std::uint64_t FewestRounds(const v1::Pool& config, std::uint64_t emitted);
  static double MostRounds(const v1::Pool& config, double emitted);

  // Of a resolved recipe: memory of a pool's state, and of the rows that a thread works on, that state among them.
  static double StateBytes(const v1::Recipe& recipe);
  static double RowBytes(const v1::Recipe& recipe);

  void Start(const RandomKey& key) override;
  FinishedRows Advance(const RandomKey& key) override;

  // For endless pools: to store a pool and to go on from it.
  const PoolState& state() const { return state_; }
  void set_state(const PoolState& state, const RandomKey& key);

 private:
  // Draws `count` distinct rows of the pool; valid until the next call.
  std::span<const int> DrawRows(Rng& rng, int count);
  void Emit(int row);
  // Emits a row that is about to be overwritten, if it was generated and emission is EVICT.
  void Evict(int row);
  // Writes a row of the ablation; whether it is constant.
  bool FreshRow(const RandomKey& key, int row, Symbol* out);

  const FamilyMix& mix_;
  ProgramSet programs_;
  v1::Pool config_;
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
  std::vector<int> targets_;
};

}  // namespace iterand
