// A stream of structured noise: the whole product in one call.
//
//   auto stream = Stream::Open(recipe, /*seed=*/0);
//   std::vector<std::byte> batch(64 * (*stream)->sequence_bytes());
//   (*stream)->Read({.first_index = 0, .rows = 64}, batch);
//
// A stream is a pure function (recipe, seed, index) -> sequence. iterate/index_map.h says in which lane and segment an
// index is.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
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
#include "randnet/run_control.h"

namespace iterand {

class Stream;
class StreamPlan;       // iterate/plan.h
struct SnapshotFolder;  // iterate/snapshots.h

// One program on the way from noise to a sequence.
struct ExplainedStep {
  std::uint64_t round = 0;  // within the segment
  std::uint32_t row = 0;    // of the program
  std::string family;
  std::string program;    // the sampled parameters, Program::Describe
  std::string input;      // "noise", "constant", "the step before", or "nothing" if the family does not read
  int prompt_length = 0;  // tokens of prompt; 0: none
  int prompt_offset = 0;  // where the prompt was cut from its row
  // The symbols of the row that it read, as ExplainOptions::rows asks for. Empty if its family does not read.
  std::vector<std::uint16_t> read = {};
};

// How a sequence came about.
struct Explanation {
  std::uint64_t index = 0;
  Position position;
  RowProvenance provenance;
  std::vector<ExplainedStep> steps;  // from noise to the sequence
  bool reproduced = false;           // the row was made again alone, and its tokens are the stream's
  std::vector<std::uint16_t> made;   // the symbols of the row, before packing and relabelling
  std::vector<std::byte> tokens;     // the sequence as the stream has it
};

struct ExplainOptions {
  const RunControl* control = nullptr;  // asked now and then whether to stop
  bool rows = false;                    // fills ExplainedStep::read, which takes another replay
};

// Buffers of one generating thread: program objects, blocks, scratch memory; of a mixture, for each part that a segment
// has had. Reused from segment to segment, so that the steady state allocates nothing. One thread at a time may use a
// workspace, and only with the stream that made it.
class Workspace {
 public:
  ~Workspace();

 private:
  friend class SegmentJob;
  friend class Stream;
  struct Buffers;
  struct PartBuffers;  // of one part of a mixture
  explicit Workspace(const StreamPlan& plan);
  std::unique_ptr<Buffers> buffers_;
};

// A segment in progress, computed in time slices, so that a scheduler can interleave other work:
//
//   SegmentJob job = stream.Begin(lane, segment, out);
//   while (!job.Run(*workspace, std::chrono::milliseconds(20))) OtherWork();
//   if (job.status().ok()) Use(out);
//
// The stream and `out` must outlive the job. One thread at a time may use it.
class SegmentJob {
 public:
  using Seconds = std::chrono::duration<double>;
  static constexpr Seconds kUnlimited = Seconds::max();

  // Works on the segment. Stops at the end of the first round after `slice`. While an endless pool is replayed, stops
  // after each segment on the way, however long it takes. Returns whether the job has ended: status() is then its
  // result, and the job must not run again. Without a limit the job always ends.
  bool Run(Workspace& workspace, Seconds slice = kUnlimited);

  // Of a job that has ended; errors as Stream::GenerateSegment.
  const absl::Status& status() const { return status_; }

  // Whether the next Run needs the same workspace, which must not be used for anything else meanwhile. While an endless
  // pool is replayed any workspace serves.
  bool keeps_workspace() const { return keeps_workspace_; }

  // Rounds of an endless pool that were left to replay when the last Run began; 0 if that Run was no replay. Asking for
  // another segment of this lane meanwhile may cause a longer replay.
  std::uint64_t replay_left() const { return replay_left_; }

 private:
  friend class Stream;
  SegmentJob(const Stream& stream, std::uint32_t lane, std::uint64_t segment, Segment& out, const RunControl* control);
  bool RunRounds(Workspace::PartBuffers& buffers, Seconds slice);
  // Writes the rows of one round that pass the filters.
  void RunRound(Workspace::PartBuffers& buffers);
  const StreamPlan& plan() const;  // of the segment's part
  absl::Status StarvedError() const;

  const Stream* stream_;
  std::uint32_t lane_;
  std::uint64_t segment_;
  Segment* out_;
  const RunControl* control_;
  bool keeps_workspace_ = false;
  std::uint64_t replay_left_ = 0;
  std::uint64_t round_ = 0;
  int part_ = 0;                              // of a mixture; known from the first Run on
  std::int64_t rounds_without_survivor_ = 0;  // except rounds of a pool that finished no row
  absl::Status status_;
};

// Which sequences Stream::Read reads, and what it reports beside their tokens.
struct ReadOptions {
  std::uint64_t first_index = 0;
  std::uint64_t stride = 1;
  int rows = 0;
  std::span<RowProvenance> provenance = {};  // where each sequence came from: room for `rows`, or empty
  std::span<std::uint8_t> loss_mask = {};    // room for rows x length(), or empty; only if has_loss_mask()
};

class Stream {
 public:
  // Resolves and checks the recipe. Errors: InvalidArgument with the path of the field, its value and what is allowed.
  // With `snapshots`, an endless pool is stored in that folder from time to time and continues from what the folder
  // has. Other streams ignore the folder.
  static absl::StatusOr<std::shared_ptr<Stream>> Open(const v1::Recipe& recipe, std::uint64_t seed,
                                                      const std::shared_ptr<const SnapshotFolder>& snapshots = nullptr);
  // Makes a stream of an existing plan, which leaves no error to find.
  static std::shared_ptr<Stream> FromPlan(std::shared_ptr<const StreamPlan> plan,
                                          const std::shared_ptr<const SnapshotFolder>& snapshots = nullptr);

  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  const StreamPlan& plan() const;
  const std::shared_ptr<const StreamPlan>& shared_plan() const;
  const v1::Recipe& recipe() const;  // every default written out
  std::uint64_t seed() const;
  const Fingerprint& fingerprint() const;
  Dtype dtype() const;
  int length() const;  // tokens per sequence
  int lanes() const;
  int segment_sequences() const;
  std::size_t sequence_bytes() const;  // length() * DtypeBytes(dtype())
  bool has_loss_mask() const;          // sequences come with loss masks (Recipe.loss_mask)
  // The family that made a row last, by name.
  const std::string& family_name(const RowProvenance& row) const;
  // Names of a mixture's parts, by RowProvenance::part (PartNames, iterate/mixture.h); empty if the recipe is none.
  const std::vector<std::string>& part_names() const;
  Provenance NamedProvenance(const RowProvenance& from) const;
  const StreamCost& Cost() const;

  const IndexMap& index_map() const;  // index <-> lane, segment, offset

  // ---- Segments: for a server or another scheduler. ----

  std::unique_ptr<Workspace> NewWorkspace() const;

  // Starts a segment that is computed in time slices into `out`, whose memory is reused. `out` is not the segment
  // before the job has ended. `control`, if given, is asked every few milliseconds of core time whether to stop or to
  // wait. Once it is stopped, the job soon ends with Cancelled.
  SegmentJob Begin(std::uint32_t lane, std::uint64_t segment, Segment& out, const RunControl* control = nullptr) const;

  // Computes a whole segment on this thread into `out`. Thread-safe, with a workspace for each thread. Segments of an
  // endless pool are replayed from the nearest pool that is kept; all others cost the same at every index.
  // Errors: FailedPrecondition if the recipe's filters starve (`starvation_rounds` rounds without a survivor);
  // OutOfRange if an endless pool would have to be replayed for more than kMaxReplayRounds; Cancelled.
  absl::Status GenerateSegment(std::uint32_t lane, std::uint64_t segment, Workspace& workspace,
                               const RunControl* control, Segment& out) const;

  // ---- Sequences: for in-process use. ----

  // Writes the tokens of the sequences first_index + i * stride, i = 0 .. rows - 1, to `tokens`, which has room for
  // rows * sequence_bytes(). Missing segments are generated in parallel (set_threads) and kept in a bounded cache, so
  // that sequential reads generate each segment once. Thread-safe.
  // Errors: as GenerateSegment; OutOfRange if an index exceeds 2^64 - 1; InvalidArgument if memory is too small or a
  // mask is asked for that the stream does not have.
  absl::Status Read(const ReadOptions& options, std::span<std::byte> tokens);

  // Where a sequence came from, found by computing its segment again with a record of every round. Also whether the
  // sequence's row is equal when it is made again alone, from its program, its input and its prompt. For people and
  // tests: slow. Thread-safe. Errors as GenerateSegment; OutOfRange if an endless pool would have to be replayed for
  // more than kMaxReplayRounds; Cancelled.
  absl::StatusOr<Explanation> Explain(std::uint64_t index, const ExplainOptions& options = {}) const;

  // Threads that Read uses; 0, the default, means all cores (OpenMP's default).
  void set_threads(int threads);

 private:
  friend class SegmentJob;
  Stream();
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace iterand
