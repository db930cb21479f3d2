#include "server/calls.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/call_errors.h"
#include "server/log.h"

namespace iterand {
namespace {

// For calls that failed because of their client: a client must not be able to fill the disk.
constexpr double kLogLines = 200;
constexpr double kLogLinesPerSecond = 20;

}  // namespace

absl::StatusOr<CallSlot> CallRegistry::TakeSlot(Method method) {
  const bool describe = method == Method::kDescribe;
  std::atomic<std::int64_t>& taken = describe ? describe_slots_ : served_slots_;
  const int most = describe ? kMaxDescribeCalls : max_calls_;
  std::lock_guard lock(mutex_);  // only TakeSlot adds, so the limit is exact
  if (draining_) return StoppingError();
  if (taken >= most) {
    return BusyError(absl::StrCat("this server has ", most, " calls of ",
                                  describe ? "Describe" : "Stream, Read and Execute",
                                  " open, as many as it allows: end one, or try again later or on another server"));
  }
  ++taken;
  return CallSlot(&taken, 1);
}

absl::StatusOr<Reservation> CallRegistry::TakeExecuteBytes(std::size_t bytes) {
  const auto amount = static_cast<std::int64_t>(bytes);
  Reservation taken(&execute_bytes_, amount);
  if (execute_bytes_.fetch_add(amount) + amount > kMaxExecuteBytes) {
    return BusyError(absl::StrCat("the calls of Execute on this server hold ", kMaxExecuteBytes,
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
  if (level == spdlog::level::info) {
    std::uint64_t left_out = 0;
    if (!MayLog(left_out)) return;
    if (left_out > 0) Log().info("{} more calls failed; they came too fast to log each", left_out);
  }
  Log().log(level, "{} of {} ended with {}: {}", MethodName(method), std::string(of), kCodes[code],
            status.error_message());
}

bool CallRegistry::MayLog(std::uint64_t& left_out) {
  const auto now = std::chrono::steady_clock::now();
  std::lock_guard lock(log_mutex_);
  const double seconds = std::chrono::duration<double>(now - last_logged_).count();
  log_lines_ = std::min(kLogLines, log_lines_ + kLogLinesPerSecond * seconds);
  last_logged_ = now;
  if (log_lines_ < 1) {
    ++left_out_;
    return false;
  }
  log_lines_ -= 1;
  left_out = std::exchange(left_out_, 0);
  return true;
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
