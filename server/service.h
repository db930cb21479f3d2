// The methods of v1.NoiseService on an engine.
//
// Threads: a call is driven by whoever has news for it (gRPC's threads when a write is done or the client cancels, the
// engine's when rows are ready), each under the call's own mutex. No thread waits for a client or for a segment.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.grpc.pb.h"
#include "server/engine.h"

namespace iterand {

grpc::Status ToGrpc(const absl::Status& status);

struct ServiceOptions {
  std::string token;  // empty: no authentication
  int max_streams = 0;
  std::size_t max_batch_bytes = 0;
};

// Counts of all calls.
struct ServiceCounters {
  std::atomic<std::uint64_t> sequences{0};
  std::atomic<std::uint64_t> tokens{0};
  std::atomic<std::uint64_t> batches{0};
  std::atomic<std::uint64_t> batch_bytes{0};
  std::atomic<std::uint64_t> wait_nanoseconds{0};
  std::atomic<std::uint64_t> streams_started{0};
};

// A call of Stream or Read that is under way.
class ActiveCall {
 public:
  virtual ~ActiveCall() = default;
  // The server is stopping: a stream ends after the batch in flight; a read goes on.
  virtual void Drain() = 0;
};

class NoiseService final
    : public v1::NoiseService::WithRawCallbackMethod_Stream<v1::NoiseService::WithRawCallbackMethod_Read<
          v1::NoiseService::WithCallbackMethod_Describe<v1::NoiseService::Service>>> {
 public:
  NoiseService(Engine* engine, const ServiceOptions& options);
  ~NoiseService() override;  // all calls must be done

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Stream(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Read(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                 grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context, const v1::DescribeRequest* request,
                                     v1::DescribeResponse* response) override;

  // Drains the calls under way and those that still come.
  void Drain();

  // The engine's statistics with those of the calls.
  EngineStats stats() const;

  // ---- For the calls. ----
  ServiceCounters& counters() { return counters_; }
  void Add(std::shared_ptr<ActiveCall> call);
  void Remove(const std::shared_ptr<ActiveCall>& call);  // gives its place back

 private:
  absl::Status Authenticate(const grpc::CallbackServerContext& context) const;
  absl::StatusOr<std::shared_ptr<OpenStream>> Open(const v1::StreamSpec& spec);
  // Takes a place among max_streams, or says that there is none.
  absl::Status TakePlace();
  void GivePlaceBack();
  absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> StartStream(const grpc::CallbackServerContext& context,
                                                                          const grpc::ByteBuffer& request);
  absl::StatusOr<grpc::ServerUnaryReactor*> StartRead(const grpc::CallbackServerContext& context,
                                                      const grpc::ByteBuffer& request, grpc::ByteBuffer* response);
  absl::Status DescribeStream(const v1::StreamSpec& spec, v1::StreamInfo& info);

  Engine* const engine_;
  const ServiceOptions options_;
  const std::string token_digest_;
  ServiceCounters counters_;

  mutable std::mutex mutex_;
  std::set<std::shared_ptr<ActiveCall>> calls_;
  int places_taken_ = 0;
  bool draining_ = false;
};

}  // namespace iterand
