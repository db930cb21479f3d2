// A call of v1.NoiseService from its headers to its end.
//
// Before any byte of its request is read, its token has been checked and it has a slot. The request is then read, if
// the gate lets it through, and parsed on a thread of the pool, which makes the call's body. The body does the rest.
// So gRPC's threads neither parse nor open anything. What a peer can make the server hold or do is bounded before it is
// held or done.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/calls.h"
#include "server/request_gate.h"
#include "server/request_pool.h"

namespace iterand {

// What a call does once its request is parsed.
class CallBody {
 public:
  virtual ~CallBody() = default;

  // Begins. All others may be called before it.
  virtual void Start() = 0;
  virtual void OnWriteDone(bool ok) = 0;
  virtual void Cancel() = 0;  // the client is gone
  virtual void Drain() = 0;   // the server is stopping: see ActiveCall
};

class Call final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                   public ActiveCall,
                   public RequestGate::Reader,
                   public std::enable_shared_from_this<Call> {
 public:
  // What the calls of a server share. It outlives them.
  struct Host {
    CallRegistry* calls;
    RequestGate* gate;
    RequestPool* pool;
    std::chrono::milliseconds request_timeout;  // from the headers to the end of the request
  };

  // Parses a request and makes the body of the call. Runs on a thread of the pool.
  using Open = std::function<absl::StatusOr<std::shared_ptr<CallBody>>(Call& call, const grpc::ByteBuffer& request)>;

  // `max_request` in bytes. `context` lives until OnDone.
  Call(const Host& host, Method method, std::size_t max_request, grpc::CallbackServerContext* context, Open open);

  // Takes a slot and reads the request; ends the call if `admission`, the verdict on its token, is an error. The call
  // keeps itself until OnDone.
  void Begin(const absl::Status& admission);

  // Whether the client is gone. For long work in Open.
  const std::atomic<bool>& cancelled() const { return cancelled_; }

  // Called by the body, which starts nothing afterwards. Both count the end of the call and log it: `of` says which
  // call it was.
  void End(const absl::Status& status, std::string_view of);
  void EndWith(const grpc::ByteBuffer& message, std::string_view of);  // the only message of the call

  void Drain() override;
  void StartReading(RequestGate::Passage passage) override;
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum class Phase { kWaiting, kReading, kQueued, kOpening, kServing, kEnded };

  void OpenRequest();  // on a thread of the pool
  void OnTimeout();

  // Under mutex_. The call must not have ended.
  void EndLocked(const grpc::Status& status, std::string_view of);
  void EndLocked(const absl::Status& status);

  const Host host_;
  const Method method_;
  const std::size_t max_request_;
  grpc::CallbackServerContext* const context_;
  const std::string peer_;
  const Open open_;
  std::shared_ptr<Call> self_;  // until OnDone
  grpc::Alarm timeout_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer message_;  // of EndWith
  std::atomic<bool> cancelled_{false};

  // May be held while gRPC is called, because gRPC calls back only from other stacks.
  std::mutex mutex_;
  Phase phase_ = Phase::kWaiting;
  CallSlot slot_;                             // until the end, or until the client has what EndWith sends
  std::optional<std::uint64_t> gate_ticket_;  // if kWaiting, except for a moment at the beginning
  std::uint64_t pool_ticket_ = 0;             // if kQueued
  RequestGate::Passage passage_;              // while the request is in memory, if it is large
  std::shared_ptr<CallBody> body_;
  bool serving_ = false;  // counted as such
  bool draining_ = false;
  bool no_request_ = false;  // ended without one; not counted yet
};

}  // namespace iterand
