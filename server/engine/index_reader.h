// IndexReader: the sequences of a list of indices, in any order and with repetitions.
//
// The indices are grouped by segment, and each segment is generated once, however many of its sequences are requested.
// The reader holds segments up to a bound in bytes and releases each as soon as its rows were handed over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "server/engine/engine_state.h"

namespace iterand {

// Used by one thread at a time.
class IndexReader {
 public:
  // Receives the row of indices[row]: place `offset` of a segment.
  using Sink =
      absl::FunctionRef<void(std::size_t row, const std::shared_ptr<const Segment>& segment, std::uint32_t offset)>;

  // Called from a thread of the engine when there are rows; see Take.
  using Callback = std::function<void()>;

  // Errors: ResourceExhausted if one segment exceeds EngineOptions::max_stream_bytes.
  static absl::StatusOr<std::unique_ptr<IndexReader>> Open(EngineState* engine, std::shared_ptr<SharedStream> stream,
                                                           std::span<const std::uint64_t> indices, Callback on_ready);
  ~IndexReader();  // closes
  IndexReader(const IndexReader&) = delete;
  IndexReader& operator=(const IndexReader&) = delete;

  // Hands over all rows that are ready, ordered by segment. Returns whether none is left; if some are, `on_ready` is
  // called once when there are more. Errors are those of Stream::GenerateSegment.
  absl::StatusOr<bool> Take(Sink sink);

  // Releases everything. Take must not be called any more.
  void Close();

 private:
  struct Row {
    std::uint64_t segment;
    std::uint32_t lane;
    std::uint32_t offset;
    std::size_t row;
  };
  struct Group {
    std::shared_ptr<SegmentEntry> entry;
    std::size_t begin;  // of its rows in rows_
    std::size_t end;
  };

  IndexReader(EngineState* engine, std::shared_ptr<SharedStream> stream, std::vector<Row> rows, Callback on_ready);

  // Requests more segments, as far as memory allows.
  void Refill() ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_.mutex);
  void Release(const std::shared_ptr<SegmentEntry>& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(engine_.mutex);

  EngineState& engine_;
  const std::shared_ptr<SharedStream> stream_;
  const std::vector<Row> rows_;  // ordered by segment and lane
  const std::size_t max_bytes_;

  std::size_t wanted_ = 0;                          // rows whose segments have been wanted
  std::deque<Group> groups_;                        // wanted and not taken, in order
  std::unordered_map<const Stripe*, int> stripes_;  // of which segments are held, and how many
  std::size_t held_bytes_ = 0;                      // of stripes_

  PendingSegments unstarted_ ABSL_GUARDED_BY(engine_.mutex);
  SegmentWaiter waiter_ ABSL_GUARDED_BY(engine_.mutex);
  bool closed_ ABSL_GUARDED_BY(engine_.mutex) = false;
};

}  // namespace iterand
