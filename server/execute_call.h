// One call of Execute. Its programs run piece by piece on the engine's threads, in turn with what those do for streams;
// gRPC's threads run none. The next piece begins when the client has room for the results of the last. So a call holds
// one message, however slow its client is.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>

#include "iterand/v1/noise_service.pb.h"
#include "server/answers/execute.h"
#include "server/call.h"
#include "server/calls.h"
#include "server/engine/background_task.h"
#include "server/engine/engine.h"

namespace iterand {

class ExecuteCall final : public CallBody, public std::enable_shared_from_this<ExecuteCall> {
 public:
  // `call` is not used after its end. The registry and the engine outlive this. `memory` is that of the programs.
  ExecuteCall(Call* call, CallRegistry* calls, Engine* engine, Execution execution, Reservation memory);

  // Begins to run programs.
  void Start() override { Next(); }
  void OnWriteDone(bool ok) override;
  void Cancel() override { cancelled_ = true; }
  void Drain() override { draining_ = true; }

 private:
  // At any time either a piece waits or runs, or a write is in progress. Next is called after either: it ends the call
  // or has another piece done.
  void Next();
  void RunPiece();
  void End(const absl::Status& status);

  Call* const call_;
  CallRegistry* const calls_;
  const Reservation memory_;
  Execution execution_;
  v1::ExecuteResponse response_;
  grpc::ByteBuffer message_;  // being sent
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> draining_{false};
  BackgroundTask task_;
};

}  // namespace iterand
