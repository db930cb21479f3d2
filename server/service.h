// The methods of v1.NoiseService on an engine. What a call does is in server/stream_call.h,
// server/read_call.h and server/execute_call.h.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.grpc.pb.h"
#include "server/auth.h"
#include "server/calls.h"
#include "server/engine.h"
#include "server/engine_stats.h"

namespace iterand {

// The largest requests, in bytes, as noise_service.proto says.
inline constexpr std::size_t kMaxRequestBytes = 16 << 20;
inline constexpr std::size_t kMaxStreamRequest = 2
                                                 << 20;  // of those that name a stream: a recipe has half of it at most

struct ServiceOptions {
  std::vector<std::string> tokens;  // none: no authentication
  int max_streams = 0;
  std::size_t max_batch_bytes = 0;
};

// All methods are raw, so that no request is parsed, which may take many times its size, before its token is checked.
class NoiseService final
    : public v1::NoiseService::WithRawCallbackMethod_Stream<
          v1::NoiseService::WithRawCallbackMethod_Read<v1::NoiseService::WithRawCallbackMethod_Describe<
              v1::NoiseService::WithRawCallbackMethod_Execute<v1::NoiseService::Service>>>> {
 public:
  NoiseService(Engine* engine, const ServiceOptions& options);
  ~NoiseService() override;  // all calls must be done

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Stream(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Read(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                 grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Execute(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request) override;

  // Accepts these tokens instead of the options', if those had some.
  void SetTokens(const std::vector<std::string>& tokens) { authenticator_.SetTokens(tokens); }

  // Drains the calls under way and those that still come.
  void Drain() { calls_.Drain(); }

  // The engine's statistics with those of the calls.
  EngineStats stats() const;

 private:
  absl::StatusOr<std::shared_ptr<OpenStream>> Open(const v1::StreamSpec& spec);
  absl::StatusOr<std::shared_ptr<OpenStream>> Open(const v1::StreamSpec& spec, const v1::Recipe& recipe);
  absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> StartStream(const grpc::CallbackServerContext& context,
                                                                          const grpc::ByteBuffer& request);
  absl::StatusOr<grpc::ServerUnaryReactor*> StartRead(const grpc::CallbackServerContext& context,
                                                      const grpc::ByteBuffer& request, grpc::ByteBuffer* response);
  absl::StatusOr<v1::DescribeResponse> Answer(const grpc::CallbackServerContext& context,
                                              const grpc::ByteBuffer& request);
  absl::StatusOr<grpc::ServerWriteReactor<grpc::ByteBuffer>*> StartExecute(const grpc::CallbackServerContext& context,
                                                                           const grpc::ByteBuffer& request);
  // The status for the client of a call that ends here; counts and logs it.
  grpc::Status End(Method method, const grpc::CallbackServerContext& context, const absl::Status& status);

  Engine* const engine_;
  const ServiceOptions options_;
  Authenticator authenticator_;
  CallRegistry calls_;
};

}  // namespace iterand
