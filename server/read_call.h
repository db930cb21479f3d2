// One call of Read. Driven like a call of Stream: see server/stream_call.h.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <mutex>

#include "iterand/v1/noise_service.pb.h"
#include "server/batch_builder.h"
#include "server/calls.h"
#include "server/engine.h"

namespace iterand {

class ReadCall final : public grpc::ServerUnaryReactor,
                       public ActiveCall,
                       public std::enable_shared_from_this<ReadCall> {
 public:
  // The call has a place in the registry, which outlives it; its rows and stride are checked.
  ReadCall(CallRegistry* calls, std::shared_ptr<OpenStream> open, const v1::ReadRequest& request,
           grpc::ByteBuffer* response);

  // Starts to serve from the feed. The registry keeps the call until gRPC is done with it.
  void Start(std::unique_ptr<Feed> feed);

  // Ends the call once all rows are ready.
  void Advance();

  void Drain() override {}

  void OnCancel() override;
  void OnDone() override;

 private:
  CallRegistry* const calls_;
  const std::shared_ptr<OpenStream> open_;
  const std::uint64_t rows_;

  std::mutex mutex_;
  std::unique_ptr<Feed> feed_;
  BatchBuilder builder_;
  grpc::ByteBuffer* const response_;
  bool cancelled_ = false;
  bool finished_ = false;
};

}  // namespace iterand
