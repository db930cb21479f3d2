// The methods of v1.NoiseService on an engine. A call begins as server/call.h says; what it does then is in
// server/stream_call.h, server/read_call.h and server/execute_call.h.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.grpc.pb.h"
#include "server/auth.h"
#include "server/call.h"
#include "server/calls.h"
#include "server/engine/engine.h"
#include "server/request_gate.h"
#include "server/request_pool.h"
#include "server/server_stats.h"

namespace iterand {

// The largest requests, in bytes, as noise_service.proto says.
inline constexpr std::size_t kMaxRequestBytes = 16 << 20;
// Of those that name a stream. A recipe has half of it at most.
inline constexpr std::size_t kMaxStreamRequest = 2 << 20;

struct ServiceOptions {
  std::vector<std::string> tokens;  // none: no authentication
  int max_streams = 0;
  std::size_t max_batch_bytes = 0;
  std::chrono::milliseconds request_timeout{};
};

// To gRPC all methods are streams of bytes in both directions, which look the same on the wire. gRPC reads nothing from
// such a stream before it is asked to. See server/call.h.
class NoiseService final : public grpc::Service {
 public:
  NoiseService(Engine* engine, const ServiceOptions& options);
  ~NoiseService() override;  // all calls must be done

  // Accepts these tokens instead of the options', if those had some.
  void SetTokens(const std::vector<std::string>& tokens) { authenticator_.SetTokens(tokens); }

  // Whether a call carries one of the tokens, or needs none. Thread-safe.
  bool Authorized(const grpc::ServerContextBase& context) const { return authenticator_.Check(context).ok(); }

  // Whether the value of a header "authorization" has one of the tokens, or none is needed. Thread-safe.
  absl::Status CheckToken(std::string_view authorization) const { return authenticator_.CheckValue(authorization); }

  LiveRows& live() { return calls_.live(); }

  // Drains the calls in progress and those that still come.
  void Drain() { calls_.Drain(); }

  // Ends the threads that parse requests. All calls must be done. Must be called before the engine is destroyed: such a
  // thread may still hold what a call has held.
  void Stop() { pool_.reset(); }

  // The engine's statistics with those of the calls.
  ServerStats stats() const;

 private:
  using Body = absl::StatusOr<std::shared_ptr<CallBody>>;

  void AddMethod(Method method, std::size_t max_request,
                 Body (NoiseService::*open)(Call& call, const grpc::ByteBuffer& request));

  // These run on threads of pool_.
  Body OpenStreamCall(Call& call, const grpc::ByteBuffer& bytes);
  Body OpenReadCall(Call& call, const grpc::ByteBuffer& bytes);
  Body OpenDescribeCall(Call& call, const grpc::ByteBuffer& bytes);
  Body OpenExecuteCall(Call& call, const grpc::ByteBuffer& bytes);
  absl::StatusOr<std::shared_ptr<SharedStream>> Open(const v1::StreamSpec& spec, const v1::Recipe& recipe);
  absl::StatusOr<v1::DescribeResponse> Answer(const v1::DescribeRequest& request);

  Engine* const engine_;
  const ServiceOptions options_;
  Authenticator authenticator_;
  CallRegistry calls_;
  RequestGate gate_;
  std::unique_ptr<RequestPool> pool_ = std::make_unique<RequestPool>();
};

}  // namespace iterand
