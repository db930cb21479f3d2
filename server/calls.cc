#include "server/calls.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/log.h"

namespace iterand {

absl::Status CallRegistry::TakePlace() {
  std::lock_guard lock(mutex_);
  if (draining_) return absl::UnavailableError("the server is stopping");
  if (places_taken_ >= max_calls_) {
    return absl::UnavailableError(absl::StrCat("this server has ", places_taken_,
                                               " calls of Stream, Read and Execute open, as many as it allows: end "
                                               "one, or try again later or on another server"));
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

void CallRegistry::CountEnd(Method method, const grpc::Status& status, std::string_view of) {
  const auto code = std::min<std::size_t>(status.error_code(), kStatusCodes - 1);
  ++counters_.ended[static_cast<std::size_t>(method)][code];
  spdlog::level::level_enum level = spdlog::level::info;
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
    case grpc::StatusCode::CANCELLED:
      level = spdlog::level::debug;
      break;
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::DATA_LOSS:
      level = spdlog::level::err;
      break;
    default:
      break;
  }
  Log().log(level, "{} of {} ended with {}: {}", MethodName(method), std::string(of), kCodes[code],
            status.error_message());
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
