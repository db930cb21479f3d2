// A stream of structured noise: the whole product in one call.
//
//   auto stream = Stream::Open(recipe, /*seed=*/0);
//   std::vector<std::byte> batch(64 * (*stream)->sequence_bytes());
//   (*stream)->Read(/*first_index=*/0, /*stride=*/1, /*rows=*/64, batch.data());
//
// A stream is a pure function (recipe, seed, index) -> sequence. Index arithmetic:
//
//   lane    = index mod lanes
//   place   = index div lanes                  place in the lane
//   segment = place div segment_sequences      segment of the lane
//   offset  = place mod segment_sequences      place in the segment
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/segment.h"
#include "randnet/run_control.h"

namespace iterand {

// Raised whenever any golden hash changes: streams of different engine versions are different streams.
inline constexpr std::uint32_t kEngineVersion = 5;

// SHA-256 of (engine version, canonical recipe, seed). Two streams are equal iff their fingerprints are.
using Fingerprint = std::array<std::uint8_t, 32>;

// Lower-case hexadecimal, 64 characters.
std::string ToHex(const Fingerprint& fingerprint);

// Where an index lies.
struct Place {
  std::uint32_t lane = 0;
  std::uint64_t segment = 0;
  std::uint32_t offset = 0;
};

// What a stream costs, estimated from the recipe.
struct StreamCost {
  double flops_per_token = 0;
  std::uint64_t segment_bytes = 0;          // tokens of one segment
  std::uint64_t first_batch_sequences = 0;  // generated before a first batch of 64 rows is ready
  std::uint64_t workspace_bytes = 0;        // of one thread: a program of each family, and the rows that they work on
  std::uint64_t endless_bytes = 0;          // the most that the lanes of an endless pool keep; else 0
};

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
  Place place;
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

class Stream {
 public:
  // Resolves and checks the recipe. Errors: InvalidArgument with the path of the field, its value and what is allowed.
  // With `snapshots`, an endless pool is kept in that folder now and then, and goes on from what is there; no other
  // stream has a use for it.
  static absl::StatusOr<std::shared_ptr<Stream>> Open(const v1::Recipe& recipe, std::uint64_t seed,
                                                      const std::shared_ptr<const SnapshotFolder>& snapshots = nullptr);

  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  const v1::Recipe& recipe() const;  // resolved: every default written out
  std::uint64_t seed() const;
  const Fingerprint& fingerprint() const;
  Dtype dtype() const;
  int length() const;  // tokens a sequence
  int lanes() const;
  int segment_sequences() const;
  std::size_t sequence_bytes() const;                // length() * DtypeBytes(dtype())
  bool has_mask() const;                             // sequences come with masks (Recipe.loss_mask)
  const std::string& family_name(int family) const;  // of RowProvenance::family
  StreamCost Cost() const;

  Place Locate(std::uint64_t index) const;

  // ---- Segments: what a server or another scheduler of its own builds on. ----

  std::unique_ptr<Workspace> NewWorkspace() const;

  // Computes a segment whole, on this thread, into `out` (its memory is reused). Thread-safe, with a workspace each.
  // `control`, if given, is asked every few milliseconds of core time whether to stop or to wait. Once it is stopped,
  // Cancelled is returned soon.
  // Errors: FailedPrecondition if the recipe's filters starve (`starvation_rounds` rounds without a survivor).
  // Segments of an endless pool are replayed from the nearest pool that is kept; those of all others cost the same.
  // With `turn` a call may end earlier (above); as long as it is unfinished `out` is not yet the segment, and the
  // workspace is not to be used for another. Of an endless pool a call takes one segment of a replay, with any
  // workspace; of its lane no other segment should be asked for meanwhile, or it may be replayed from further back.
  absl::Status GenerateSegment(std::uint32_t lane, std::uint64_t segment, Workspace& workspace,
                               const RunControl* control, Segment& out, Turn* turn = nullptr) const;

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
