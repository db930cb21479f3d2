#include "server/connection_setup.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "server/file_limit.h"
#include "server/log.h"

namespace iterand {
namespace {

constexpr int kCallsBesides = 64;  // of one connection, besides those of --max-streams: health checks, Describe
constexpr int kMetadataBytes = 8192;
constexpr int kReadBytes = 1 << 10;  // at a time: gRPC parses all it has read, even if the connection is closed
// Memory of requests and calls in gRPC. Beyond it gRPC ends calls at random, so the other bounds keep it far away.
constexpr std::size_t kQuotaBytes = std::size_t{512} << 20;
constexpr int kReflectionThreads = 32;

}  // namespace

ConnectionLimits LimitsOf(const ServerOptions& options) {
  ConnectionLimits limits;
  limits.total = ConnectionsThatFit(options.max_connections);
  if (limits.total < options.max_connections) {
    Log().warn("the limit of open files allows {} connections, fewer than the {} of --max-connections", limits.total,
               options.max_connections);
  }
  limits.per_peer = options.max_connections_per_peer;
  // One client may use all slots for calls. The error that none is free must still reach it.
  limits.streams = options.max_streams + kCallsBesides;
  limits.total_streams = options.max_streams + limits.total;
  return limits;
}

void BoundConnections(grpc::ServerBuilder& builder, const ConnectionLimits& limits,
                      std::chrono::milliseconds handshake_timeout, CallWatch* calls) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(calls->NewFactory());
  builder.experimental().SetInterceptorCreators(std::move(factories));
  grpc::ResourceQuota quota("iterand");
  quota.Resize(kQuotaBytes).SetMaxThreads(kReflectionThreads);
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 1);  // counts the calls of each connection
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.streams);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kReadBytes);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, static_cast<int>(handshake_timeout.count()));
  // A client whose machine is gone must keep neither its lanes nor its connection.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // gRPC's own defence against pings costs more than the pings: for each ping beyond the limit it copies the errors of
  // all earlier ones. The guard counts their bytes instead.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
}

}  // namespace iterand
