// The client with the messages of the service as requests. For the command iterand, benchmarks, and tests that send
// requests of every form. Client (iterand/client.h) is built on it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/client.h"
#include "iterand/v1/noise_service.pb.h"

namespace iterand {

class Connection;

// Thread-safe. Errors, retries and failover as Client.
class RpcClient {
 public:
  static absl::StatusOr<std::unique_ptr<RpcClient>> Connect(const std::string& address,
                                                            const ClientOptions& options = {});
  static absl::StatusOr<std::unique_ptr<RpcClient>> ConnectToAny(std::vector<std::string> addresses,
                                                                 const ClientOptions& options = {});
  ~RpcClient();
  RpcClient(const RpcClient&) = delete;
  RpcClient& operator=(const RpcClient&) = delete;

  // prefetch: StreamOptions::prefetch. Errors: InvalidArgument if it is below 0.
  absl::StatusOr<std::unique_ptr<RemoteStream>> Stream(const v1::StreamRequest& request, int prefetch = 0);
  absl::StatusOr<Batch> Read(const v1::ReadRequest& request, Timeout timeout = std::nullopt);
  absl::StatusOr<v1::DescribeResponse> Describe(const v1::DescribeRequest& request, Timeout timeout = std::nullopt);
  absl::Status Execute(const v1::ExecuteRequest& request, absl::FunctionRef<bool(const v1::ExecuteResult&)> sink,
                       Timeout timeout = std::nullopt);

 private:
  explicit RpcClient(std::shared_ptr<Connection> connection);

  std::shared_ptr<Connection> connection_;
};

}  // namespace iterand
