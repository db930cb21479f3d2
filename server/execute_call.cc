#include "server/execute_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/call_errors.h"
#include "server/messages.h"

namespace iterand {

ExecuteCall::ExecuteCall(Call* call, CallRegistry* calls, Engine* engine, Execution execution, Reservation memory)
    : call_(call),
      calls_(calls),
      memory_(std::move(memory)),
      execution_(std::move(execution)),
      task_(engine->state()) {}

void ExecuteCall::OnWriteDone(bool ok) {
  if (!ok) cancelled_ = true;
  Next();
}

void ExecuteCall::Next() {
  if (cancelled_) {
    End(CancelledByClientError());
  } else if (execution_.done()) {
    End(absl::OkStatus());
  } else if (draining_) {
    const std::string next = absl::StrCat(execution_.next_program());
    End(WithReason(
        v1::SERVER_STOPPING,
        absl::UnavailableError(absl::StrCat("the server is stopping: programs from number ", next, " on were not run")),
        {{"next_program", next}}));
  } else {
    // The piece keeps the call: it may be over before the thread that runs the piece has returned from it.
    task_.Post([self = shared_from_this()] { self->RunPiece(); });
  }
}

void ExecuteCall::End(const absl::Status& status) {
  call_->End(status, absl::StrCat(execution_.next_program(), " programs"));
}

void ExecuteCall::RunPiece() {
  response_.Clear();
  const std::uint64_t steps = execution_.steps();
  if (!cancelled_) execution_.Advance(response_);
  CallCounters& counters = calls_->counters();
  counters.programs_executed += static_cast<std::uint64_t>(response_.results_size());
  counters.steps_executed += execution_.steps() - steps;
  if (cancelled_ || response_.results().empty()) {
    Next();
    return;
  }
  message_ = ToBuffer(response_);
  call_->StartWrite(&message_);
}

}  // namespace iterand
