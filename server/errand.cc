// Errands: see server/engine.h.
#include <algorithm>
#include <mutex>
#include <utility>

#include "server/engine.h"

namespace iterand {

Errand::~Errand() {
  std::lock_guard lock(engine_->mutex_);
  std::erase(engine_->errands_, this);
}

void Errand::Post(std::function<void()> piece) {
  std::lock_guard lock(engine_->mutex_);
  piece_ = std::move(piece);
  engine_->errands_.push_back(this);
  if (account_->running == 0) account_->virtual_time = std::max(account_->virtual_time, engine_->virtual_time_);
  engine_->WakeThreads(1);
}

Errand* Engine::NextErrand() const {
  const auto first = std::min_element(errands_.begin(), errands_.end(), [](const Errand* a, const Errand* b) {
    return a->account_->virtual_time < b->account_->virtual_time;
  });
  return first == errands_.end() ? nullptr : *first;
}

}  // namespace iterand
