// BackgroundTask: work that is not a segment, done in pieces on an engine's threads, in turn with the readers'
// segments.
//
// Its core time is accounted as a reader's is. A piece should take no more than a few milliseconds, since it is not
// interrupted.
#pragma once

#include <functional>

#include "absl/base/thread_annotations.h"
#include "server/engine/engine_state.h"

namespace iterand {

class BackgroundTask {
 public:
  explicit BackgroundTask(EngineState* engine);
  ~BackgroundTask();  // a piece that has not begun is dropped
  BackgroundTask(const BackgroundTask&) = delete;
  BackgroundTask& operator=(const BackgroundTask&) = delete;

  // Calls `piece` once, on a thread of the engine. The piece before it must have begun.
  void Post(std::function<void()> piece);

 private:
  EngineState& engine_;
  PendingPiece pending_ ABSL_GUARDED_BY(engine_.mutex);
};

}  // namespace iterand
