#include "server/engine/background_task.h"

#include <utility>

namespace iterand {

BackgroundTask::BackgroundTask(EngineState* engine) : engine_(*engine) {
  absl::MutexLock lock(&engine_.mutex);
  pending_.account = engine_.scheduler.NewAccount();
}

BackgroundTask::~BackgroundTask() {
  absl::MutexLock lock(&engine_.mutex);
  engine_.queue.Remove(&pending_);
}

void BackgroundTask::Post(std::function<void()> piece) {
  absl::MutexLock lock(&engine_.mutex);
  pending_.piece = std::move(piece);
  engine_.scheduler.Activate(*pending_.account);
  engine_.queue.Add(&pending_);
  engine_.WakeWorkers(1);
}

}  // namespace iterand
