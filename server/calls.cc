#include "server/calls.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/log.h"

namespace iterand {

absl::StatusOr<CallSlot> CallRegistry::TakeSlot(Method method) {
  const bool describe = method == Method::kDescribe;
  std::atomic<std::int64_t>& taken = describe ? describe_slots_ : served_slots_;
  const int most = describe ? kMaxDescribeCalls : max_calls_;
  std::lock_guard lock(mutex_);  // only TakeSlot adds, so the limit is exact
  if (draining_) return absl::UnavailableError("the server is stopping");
  if (taken >= most) {
    return absl::UnavailableError(
        absl::StrCat("this server has ", most, " calls of ", describe ? "Describe" : "Stream, Read and Execute",
                     " open, as many as it allows: end one, or try again later or on another server"));
  }
  ++taken;
  return CallSlot(&taken, 1);
}

absl::StatusOr<Reservation> CallRegistry::TakeExecuteBytes(std::size_t bytes) {
  const auto amount = static_cast<std::int64_t>(bytes);
  Reservation taken(&execute_bytes_, amount);
  if (execute_bytes_.fetch_add(amount) + amount > kMaxExecuteBytes) {
    return absl::UnavailableError(absl::StrCat("the calls of Execute on this server hold ", kMaxExecuteBytes,
                                               " bytes of programs, as many as it allows: try again later or on "
                                               "another server"));
  }
  return taken;
}

void CallRegistry::Add(const std::shared_ptr<ActiveCall>& call) {
  bool draining;
  {
    std::lock_guard lock(mutex_);
    draining = draining_;
    calls_.insert(call);
  }
  if (draining) call->Drain();
}

void CallRegistry::Remove(const std::shared_ptr<ActiveCall>& call) {
  std::lock_guard lock(mutex_);
  calls_.erase(call);
}

void CallRegistry::CountStart() {
  ++serving_;
  ++counters_.streams_started;
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

}  // namespace iterand
