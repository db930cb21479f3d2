// RunQueue: everything in an engine that waits for a core, and which of it is next.
//
// Four kinds of work wait: segments that are not begun, segments between two slices, segments that are paused on a
// thread of their own, and pieces of background tasks. The one whose account the scheduler puts first is next. Two
// rules come before that:
//   - Segments that nobody wants any more go first, since they end at once and free their workspace.
//   - If the next reader's stream has no free workspace, the reader may not begin a segment. The segments of that
//     stream that are in progress then go in its place.
//
// Not thread-safe: the engine's mutex guards the queue and what it points to.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/engine/fair_scheduler.h"
#include "server/engine/segment_cache.h"
#include "server/engine/segment_task.h"
#include "server/engine/stream_registry.h"

namespace iterand {

// The segments that one reader wants to have generated, in that order.
struct PendingSegments {
  std::shared_ptr<FairScheduler::Account> account;
  std::shared_ptr<SharedStream> stream;
  std::deque<std::shared_ptr<SegmentEntry>> entries;  // some may be begun already, for another reader
};

// A piece of a background task.
struct PendingPiece {
  std::shared_ptr<FairScheduler::Account> account;
  std::function<void()> piece;
};

// A computation that waits in the middle of a round, on its thread.
struct PausedTask {
  const SegmentTask* task = nullptr;
  bool resumed = false;
  absl::CondVar resume;  // once `resumed` is set
};

class RunQueue {
 public:
  // What is next. The segment task is not begun if it is the first slice of its segment.
  using Work = std::variant<std::monostate, SegmentTask, PausedTask*, PendingPiece>;

  // Both stay until they are removed or have become empty.
  void Add(PendingSegments* segments);
  void Remove(PendingSegments* segments) { std::erase(segments_, segments); }
  void Add(PendingPiece* piece) { pieces_.push_back(piece); }
  void Remove(PendingPiece* piece) { std::erase(pieces_, piece); }

  void Add(SegmentTask task) { unfinished_.push_back(std::move(task)); }
  void Add(PausedTask* paused) { paused_.push_back(paused); }

  // Whether something waits that must be served before `account`.
  bool HasBefore(const FairScheduler& scheduler, const FairScheduler::Account& account);
  bool HasWork(const FairScheduler& scheduler);

  // Takes what is next; monostate if nothing can be done now.
  Work Take(const FairScheduler& scheduler);

  // Takes any paused task, or null: to let all end.
  PausedTask* TakePaused();

  // Releases segments that are between two slices: at the end.
  void Clear() { unfinished_.clear(); }

 private:
  enum class Kind { kNone, kSegment, kUnfinished, kPaused, kPiece };
  struct Choice {
    Kind kind = Kind::kNone;
    std::size_t index = 0;                            // in the list of its kind
    std::size_t place = 0;                            // kSegment: in its entries
    const FairScheduler::Account* account = nullptr;  // in whose place it goes
    bool cancelled = false;
  };

  Choice Choose(const FairScheduler& scheduler);
  Choice ChooseSegment(const FairScheduler& scheduler);

  std::vector<PendingSegments*> segments_;  // with entries, in the order of arrival
  std::vector<PendingPiece*> pieces_;
  std::vector<SegmentTask> unfinished_;
  std::vector<PausedTask*> paused_;
};

}  // namespace iterand
