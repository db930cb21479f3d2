// SequenceReader: one consumer's sequences, first, first + stride, ..., in order.
//
// A reader keeps a bounded number of segments queued, in progress or ready ahead of what was taken from it. At first it
// requests only what the first batch needs. Then it reads ahead to kLookahead times what was taken, until the bound in
// bytes is reached. If nobody takes rows, it wants nothing more. A closed reader's segments are dropped from the queue,
// and stopped in progress unless another reader wants them.
//
// A reader that takes rows from several lanes in turn has their segments generated into stripes
// (server/engine/stripe_buffer.h). Memory is counted by whole stripes: a reader is charged for every stripe of which it
// holds a segment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/engine_state.h"
#include "server/engine/read_pattern.h"

namespace iterand {

// Used by one thread at a time.
class SequenceReader {
 public:
  // Receives a row: place `offset` of a segment.
  using Sink = absl::FunctionRef<void(const std::shared_ptr<const Segment>& segment, std::uint32_t offset)>;

  struct Options {
    std::uint64_t first = 0;
    std::uint64_t stride = 1;
    std::uint64_t count = 0;
    // Rows of the first batch. It is generated before what steady readers want ahead. 0: the reader wants all rows at
    // once and has no such priority.
    std::uint64_t first_batch_size = 0;
    // The segments are generated for this reader alone, and no cache keeps them. The receiver of rows may write to
    // their memory.
    bool exclusive = false;
  };

  // Called from a thread of the engine when there are rows; see Take.
  using Callback = std::function<void()>;

  // Errors: OutOfRange if an index exceeds 2^64 - 1, ResourceExhausted if the reader would have to hold more than
  // EngineOptions::max_stream_bytes.
  static absl::StatusOr<std::unique_ptr<SequenceReader>> Open(EngineState* engine, std::shared_ptr<SharedStream> stream,
                                                              const Options& options, Callback on_ready);
  ~SequenceReader();  // closes
  SequenceReader(const SequenceReader&) = delete;
  SequenceReader& operator=(const SequenceReader&) = delete;

  // Hands over the next rows, at most `rows`, and returns how many. If it is fewer and rows remain, `on_ready` is
  // called once, from a thread of the engine, when there are more. In the first batch that is when the next row is
  // ready. Later it is when the next segment of every lane that these rows need is ready, as far as memory allows: a
  // call per segment would wake the consumer many times per batch. Errors are those of Stream::GenerateSegment.
  absl::StatusOr<int> Take(int rows, Sink sink);

  std::uint64_t next_index() const { return next_index_; }  // of the next row that Take hands over
  std::uint64_t remaining() const { return remaining_; }    // rows
  const SharedStream& shared_stream() const { return *stream_; }

  // Releases everything: queued work is dropped, work in progress is stopped. Take must not be called afterwards.
  void Close();

  // Core time spent for this reader.
  double core_seconds() const;

 private:
  using Entries = std::vector<std::shared_ptr<SegmentEntry>>;

  // What was taken of one slot of the pattern.
  struct Slot {
    std::uint64_t place = 0;              // of the next row
    std::uint32_t offset = 0;             // of that place in its segment
    std::shared_ptr<SegmentEntry> entry;  // that the place is in; null if the next row begins a segment
  };

  SequenceReader(EngineState* engine, std::shared_ptr<SharedStream> stream, const ReadPattern& pattern,
                 const Options& options, std::size_t in_use_bytes, std::size_t max_bytes, Callback on_ready);

  // The window, in rows of the progression: segments that begin within it are due to be requested.
  ReadPattern::Wide Window() const;
  // Requests more segments, as far as the window and memory allow; the next one in any case if `needs_next`.
  void Refill(bool needs_next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_.mutex);
  // The segment that row `round` of a slot begins, or null if it must wait for memory. `needed`: it is the next one.
  std::shared_ptr<SegmentEntry> Acquire(std::uint64_t slot, std::uint64_t round, bool needed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_.mutex);
  // Of the next `rows` rows, the last whose segment is requested but not there; it is the next row's if no other is.
  SegmentEntry* LastMissing(int rows) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_.mutex);
  // Releases the entries of finished_, appends them to `garbage`, and refills.
  void ReleaseFinished(Entries& garbage, bool needs_next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_.mutex);
  void AddHeldBytes(std::size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_.mutex);
  void SubtractHeldBytes(std::size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_.mutex);

  EngineState& engine_;
  const std::shared_ptr<SharedStream> stream_;
  const ReadPattern pattern_;
  const std::uint64_t first_batch_size_;
  const std::uint64_t owner_;       // of the segments' entries
  const std::size_t in_use_bytes_;  // of the segments that must be held at once, in stripes of the reader's own
  const std::size_t max_bytes_;

  std::uint64_t remaining_;
  std::uint64_t next_index_;
  std::vector<Slot> slots_;
  std::size_t slot_ = 0;                                    // of the next row
  bool starting_;                                           // the first batch was not taken yet
  bool window_is_full_ = false;                             // Refill stopped at the window
  std::deque<std::shared_ptr<SegmentEntry>> lookahead_;     // wanted, in the order in which rows begin them
  Entries finished_;                                        // taken, not yet released
  using Pending = std::pair<std::uint64_t, std::uint32_t>;  // (round, slot) at which a segment begins
  std::priority_queue<Pending, std::vector<Pending>, std::greater<>> pending_;  // not yet wanted
  std::unordered_map<const Stripe*, int> stripes_;  // of which segments are held, and how many
  std::size_t held_bytes_ = 0;                      // of stripes_
  std::shared_ptr<Stripe> stripe_;    // of several lanes, for the segments that are due next; one of stripes_
  std::uint64_t stripe_segment_ = 0;  // their number

  PendingSegments unstarted_ ABSL_GUARDED_BY(engine_.mutex);
  SegmentWaiter waiter_ ABSL_GUARDED_BY(engine_.mutex);
  bool closed_ ABSL_GUARDED_BY(engine_.mutex) = false;
};

}  // namespace iterand
