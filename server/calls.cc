#include "server/calls.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace iterand {

absl::Status CallRegistry::TakePlace() {
  std::lock_guard lock(mutex_);
  if (draining_) return absl::UnavailableError("the server is stopping");
  if (places_taken_ >= max_calls_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this server has ", places_taken_,
                     " calls of Stream, Read and Execute open, as many as it allows: end one, or try again later"));
  }
  ++places_taken_;
  return absl::OkStatus();
}

void CallRegistry::GivePlaceBack() {
  std::lock_guard lock(mutex_);
  --places_taken_;
}

void CallRegistry::Add(const std::shared_ptr<ActiveCall>& call) {
  bool draining;
  {
    std::lock_guard lock(mutex_);
    draining = draining_;
    calls_.insert(call);
  }
  ++counters_.streams_started;
  if (draining) call->Drain();
}

void CallRegistry::Remove(const std::shared_ptr<ActiveCall>& call) {
  std::lock_guard lock(mutex_);
  calls_.erase(call);
  --places_taken_;
}

void CallRegistry::Drain() {
  std::vector<std::shared_ptr<ActiveCall>> calls;
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
    calls.assign(calls_.begin(), calls_.end());
  }
  for (const std::shared_ptr<ActiveCall>& call : calls) call->Drain();
}

int CallRegistry::open() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(calls_.size());
}

}  // namespace iterand
