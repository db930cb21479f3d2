// Counts, for each connection, the calls that a server has seen: which requests were authorized, and their bytes.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_interceptor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/container/flat_hash_map.h"

namespace iterand {

// Totals of the calls of one connection, except `awaited_bytes`.
struct CallTotals {
  std::atomic<std::uint64_t> accounted_bytes{0};
  std::atomic<std::uint64_t> unauthenticated{0};
  std::atomic<std::uint64_t> awaited_bytes{0};  // that requests on their way may have, now
};

// Thread-safe.
class CallWatch {
 public:
  // `authorized` returns whether a call carries a token of the server.
  explicit CallWatch(std::function<bool(const grpc::ServerContextBase&)> authorized)
      : authorized_(std::move(authorized)) {}

  // Counts the calls of a peer, named as gRPC names it ("ipv4:127.0.0.1:40000"), until Remove.
  std::shared_ptr<CallTotals> Add(const std::string& peer);
  void Remove(const std::string& peer);

  // For one grpc::ServerBuilder. The watch must outlive the server.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewFactory();

 private:
  class Factory;
  class Interceptor;

  std::shared_ptr<CallTotals> Find(const std::string& peer);  // null if there is none

  const std::function<bool(const grpc::ServerContextBase&)> authorized_;
  std::mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<CallTotals>> totals_;
};

}  // namespace iterand
