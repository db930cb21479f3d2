// A stream of structured noise: the whole product in one call.
//
//   auto stream = Stream::Open(recipe, /*seed=*/0);
//   std::vector<std::byte> batch(64 * (*stream)->sequence_bytes());
//   (*stream)->Read(/*first_index=*/0, /*stride=*/1, /*rows=*/64, batch.data());
//
// A stream is a pure function (recipe, seed, index) -> sequence. iterate/index_map.h says in which lane and segment an
// index is.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/dtype.h"
#include "iterate/fingerprint.h"
#include "iterate/index_map.h"
#include "iterate/provenance.h"
#include "iterate/segment.h"
#include "iterate/stream_cost.h"

namespace iterand {

// One program on the way from noise to a sequence.
struct ExplainedStep {
  std::uint64_t round = 0;  // within the segment
  std::uint32_t row = 0;    // of the program
  std::string family;
  std::string program;    // the sampled parameters, Program::Describe
  std::string input;      // "noise", "constant", "the step before", or "nothing" if the family does not read
  int prompt_length = 0;  // tokens of prompt; 0: none
  int prompt_offset = 0;  // where the prompt was cut from its row
};

// What Stream::Explain tells of a sequence.
struct Explanation {
  std::uint64_t index = 0;
  Position position;
  RowProvenance provenance;
  std::vector<ExplainedStep> steps;  // from noise to the sequence
  bool reproduced = false;           // the row was made again alone, and its tokens are the stream's
};

// Buffers of one generating thread: program objects, blocks, scratch. Reused from segment to segment, so that the
// steady state allocates nothing. One thread at a time may use a workspace, and only with the stream that made it.
class Workspace {
 public:
  virtual ~Workspace() = default;
};

// By which a call of Stream::GenerateSegment gives its thread back before the segment is whole, so that a scheduler can
// turn to other work. The same is then to be called again with the same Turn, workspace and segment.
struct Turn {
  double seconds = 0;             // after so long, at the end of a round
  bool unfinished = false;        // the segment is not whole yet; false for the first call
  std::uint64_t replay_left = 0;  // rounds that an endless pool had to replay before this call; else 0
};

struct SnapshotFolder;  // iterate/snapshots.h
class StreamPlan;       // iterate/plan.h

class Stream {
 public:
  // Resolves and checks the recipe. Errors: InvalidArgument with the path of the field, its value and what is allowed.
  // With `snapshots`, an endless pool is kept in that folder now and then, and goes on from what is there; no other
  // stream has a use for it.
  static absl::StatusOr<std::shared_ptr<Stream>> Open(const v1::Recipe& recipe, std::uint64_t seed,
                                                      const std::shared_ptr<const SnapshotFolder>& snapshots = nullptr);

  // A stream of a plan that was made before. No error is left to find.
  static std::shared_ptr<Stream> FromPlan(std::shared_ptr<const StreamPlan> plan,
                                          const std::shared_ptr<const SnapshotFolder>& snapshots = nullptr);

  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  const StreamPlan& plan() const;
  const v1::Recipe& recipe() const;  // every default written out
  std::uint64_t seed() const;
  const Fingerprint& fingerprint() const;
  Dtype dtype() const;
  int length() const;  // tokens per sequence
  int lanes() const;
  int segment_sequences() const;
  std::size_t sequence_bytes() const;                // length() * DtypeBytes(dtype())
  bool has_mask() const;                             // sequences come with masks (Recipe.loss_mask)
  const std::string& family_name(int family) const;  // of RowProvenance::family
  const StreamCost& Cost() const;

  const IndexMap& index_map() const;  // index <-> lane, segment, offset

  // ---- Segments: what a server or another scheduler of its own builds on. ----

  std::unique_ptr<Workspace> NewWorkspace() const;

  // Computes a segment whole, on this thread, into `out` (its memory is reused). Thread-safe, with a workspace each.
  // `cancelled`, if given, must not turn false again: Cancelled is returned within a second or so of its turning true.
  // Errors: FailedPrecondition if the recipe's filters starve (`starvation_rounds` rounds without a survivor).
  // Segments of an endless pool are replayed from the nearest pool that is kept; those of all others cost the same.
  // With `turn` a call may end earlier (above); as long as it is unfinished `out` is not yet the segment, and the
  // workspace is not to be used for another. Of an endless pool a call takes one segment of a replay, with any
  // workspace; of its lane no other segment should be asked for meanwhile, or it may be replayed from further back.
  absl::Status GenerateSegment(std::uint32_t lane, std::uint64_t segment, Workspace& workspace,
                               const std::atomic<bool>* cancelled, Segment& out, Turn* turn = nullptr) const;

  // ---- Sequences: for in-process use. ----

  // Writes the sequences first_index + i * stride, i = 0 .. rows - 1, to `out` (rows * sequence_bytes()) and, if given,
  // where they came from to `provenance` (rows entries), and their masks to `mask` (rows x length() bytes; only if
  // has_mask()). Missing segments are generated in parallel by `threads`
  // threads (set_threads) and kept in a bounded cache, so that sequential reads generate each segment once.
  // Thread-safe. Errors as GenerateSegment; OutOfRange if an index exceeds 2^64 - 1.
  absl::Status Read(std::uint64_t first_index, std::uint64_t stride, int rows, void* out,
                    RowProvenance* provenance = nullptr, std::uint8_t* mask = nullptr);

  // Where a sequence came from, by computing its segment again with a record of every round; and whether the sequence's
  // row, made again alone from its program, its input and its prompt, is equal. For people and tests: slow.
  // Thread-safe. Errors as GenerateSegment; OutOfRange if an endless pool would have to be replayed for more than
  // kMaxReplayRounds.
  absl::StatusOr<Explanation> Explain(std::uint64_t index) const;

  // Threads that Read uses; 0, the default, means all cores (OpenMP's default).
  void set_threads(int threads);

 private:
  Stream();
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace iterand
