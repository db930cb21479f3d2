#include "server/call.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "common/rpc/grpc_status.h"
#include "server/call_errors.h"

namespace iterand {
namespace {

absl::Status NoRequest() {
  return WithReason(v1::INVALID_REQUEST, absl::InvalidArgumentError("the call carries no request"));
}

}  // namespace

Call::Call(const Host& host, Method method, std::size_t max_request, grpc::CallbackServerContext* context, Open open)
    : host_(host),
      method_(method),
      max_request_(max_request),
      context_(context),
      peer_(context->peer()),
      open_(std::move(open)) {}

void Call::Begin(const absl::Status& admission) {
  self_ = shared_from_this();
  absl::StatusOr<CallSlot> slot = admission.ok() ? host_.calls->TakeSlot(method_) : absl::StatusOr<CallSlot>(admission);
  if (!slot.ok()) {
    std::lock_guard lock(mutex_);
    EndLocked(slot.status());
    return;
  }
  slot_ = *std::move(slot);
  timeout_.Set(std::chrono::system_clock::now() + host_.request_timeout, [weak = weak_from_this()](bool expired) {
    if (!expired) return;
    if (const std::shared_ptr<Call> call = weak.lock()) call->OnTimeout();
  });
  host_.calls->Add(self_);
  const std::uint64_t ticket = host_.gate->Enter(method_, self_);
  std::lock_guard lock(mutex_);
  gate_ticket_ = ticket;
  if (phase_ == Phase::kEnded) host_.gate->Abandon(method_, ticket);
}

void Call::StartReading(RequestGate::Passage passage) {
  std::lock_guard lock(mutex_);
  if (phase_ != Phase::kWaiting) return;
  passage_ = std::move(passage);
  phase_ = Phase::kReading;
  StartRead(&request_);
}

void Call::OnReadDone(bool ok) {
  RequestGate::Passage passage;  // released without the lock
  std::lock_guard lock(mutex_);
  passage = std::move(passage_);
  if (phase_ != Phase::kReading) return;
  if (!ok) {
    // The client has sent no request, or has gone, which only OnDone knows for sure.
    no_request_ = true;
    phase_ = Phase::kEnded;
    timeout_.Cancel();
    slot_ = CallSlot();
    Finish(ToGrpc(NoRequest()));
    return;
  }
  timeout_.Cancel();
  const std::size_t bytes = request_.Length();
  if (bytes > max_request_) {
    EndLocked(WithReason(
        v1::REQUEST_TOO_LARGE,
        absl::ResourceExhaustedError(absl::StrCat("the request has ", bytes, " bytes; a ", MethodName(method_),
                                                  "Request may have at most ", max_request_)),
        {{"limit", absl::StrCat(max_request_)}}));
    return;
  }
  const std::optional<std::uint64_t> ticket =
      host_.pool->Post(bytes, [self = shared_from_this()] { self->OpenRequest(); });
  if (!ticket) {
    const std::size_t most = bytes <= kSmallRequestBytes ? RequestPool::kMaxSmallBytes : RequestPool::kMaxLargeBytes;
    EndLocked(BusyError(absl::StrCat("this server has ", most >> 20,
                                     " MB of requests to parse, as many as it allows: try again later or on another "
                                     "server")));
    return;
  }
  phase_ = Phase::kQueued;
  pool_ticket_ = *ticket;
  if (bytes > kSmallRequestBytes) passage_ = std::move(passage);
}

void Call::OpenRequest() {
  {
    std::lock_guard lock(mutex_);
    if (phase_ != Phase::kQueued) return;
    phase_ = Phase::kOpening;
  }
  absl::StatusOr<std::shared_ptr<CallBody>> body = open_(*this, request_);
  request_.Clear();
  bool draining = false;
  {
    RequestGate::Passage passage;  // released without the lock
    std::lock_guard lock(mutex_);
    passage = std::move(passage_);
    if (cancelled_ || !body.ok()) {
      EndLocked(cancelled_ ? CancelledByClientError() : body.status());
      return;
    }
    phase_ = Phase::kServing;
    body_ = *body;
    if (method_ != Method::kDescribe) {
      serving_ = true;
      host_.calls->CountStart();
    }
    draining = draining_;
  }
  (*body)->Start();
  if (draining) (*body)->Drain();
}

void Call::OnTimeout() {
  std::lock_guard lock(mutex_);
  const auto seconds = [this] { return static_cast<double>(host_.request_timeout.count()) / 1000; };
  if (phase_ == Phase::kReading) {
    EndLocked(WithReason(v1::REQUEST_TIMEOUT,
                         absl::DeadlineExceededError(absl::StrCat("the request did not arrive within ", seconds(),
                                                                  " seconds, which this server allows it"))));
  } else if (phase_ == Phase::kWaiting) {
    EndLocked(BusyError(absl::StrCat("for ", seconds(), " seconds this server has been reading ",
                                     RequestGate::MaxReads(method_), " other requests of ", MethodName(method_),
                                     ", as many as it allows: try again later or on another server")));
  }
}

void Call::Drain() {
  std::shared_ptr<CallBody> body;
  {
    std::lock_guard lock(mutex_);
    switch (phase_) {
      case Phase::kWaiting:
      case Phase::kReading:
      case Phase::kQueued:
        EndLocked(StoppingError());
        return;
      case Phase::kOpening:
        draining_ = true;
        return;
      case Phase::kServing:
        body = body_;
        break;
      case Phase::kEnded:
        return;
    }
  }
  body->Drain();
}

void Call::OnWriteDone(bool ok) {
  std::shared_ptr<CallBody> body;
  {
    std::lock_guard lock(mutex_);
    body = body_;
  }
  body->OnWriteDone(ok);
}

void Call::OnCancel() {
  std::shared_ptr<CallBody> body;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (phase_ == Phase::kWaiting || phase_ == Phase::kQueued) {
      EndLocked(CancelledByClientError());
    } else if (phase_ == Phase::kServing) {
      body = body_;
    }  // else OnReadDone or OpenRequest follows
  }
  if (body) body->Cancel();
}

void Call::OnDone() {
  const std::shared_ptr<Call> self = std::move(self_);
  host_.calls->Remove(self);
  std::shared_ptr<CallBody> body;
  {
    std::lock_guard lock(mutex_);
    body = std::move(body_);
  }
  if (serving_) host_.calls->CountStop();
  if (no_request_)
    host_.calls->CountEnd(method_, ToGrpc(context_->IsCancelled() ? CancelledByClientError() : NoRequest()), peer_);
}

void Call::End(const absl::Status& status, std::string_view of) {
  std::lock_guard lock(mutex_);
  EndLocked(ToGrpc(status), of);
}

void Call::EndWith(const grpc::ByteBuffer& message, std::string_view of) {
  std::lock_guard lock(mutex_);
  phase_ = Phase::kEnded;
  message_ = message;  // counts a reference
  host_.calls->CountEnd(method_, grpc::Status::OK, of);
  StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
}

void Call::EndLocked(const absl::Status& status) { EndLocked(ToGrpc(status), peer_); }

void Call::EndLocked(const grpc::Status& status, std::string_view of) {
  if (phase_ == Phase::kWaiting && gate_ticket_) host_.gate->Abandon(method_, *gate_ticket_);
  if (phase_ == Phase::kQueued) {
    host_.pool->Withdraw(pool_ticket_);
    request_.Clear();
  }
  phase_ = Phase::kEnded;
  timeout_.Cancel();
  host_.calls->CountEnd(method_, status, of);
  slot_ = CallSlot();  // before the client knows, which may call again at once
  Finish(status);
}

}  // namespace iterand
