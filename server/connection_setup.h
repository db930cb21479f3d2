// The bounds of a server's connections, from its options.
#pragma once

#include <grpcpp/server_builder.h>

#include <chrono>

#include "server/call_watch.h"
#include "server/connection_limits.h"
#include "server/server.h"

namespace iterand {

// Logs if the limit of open files reduces the number of connections.
ConnectionLimits LimitsOf(const ServerOptions& options);

// What gRPC itself bounds, and the interceptors of `calls`, which must outlive the server.
void BoundConnections(grpc::ServerBuilder& builder, const ConnectionLimits& limits,
                      std::chrono::milliseconds handshake_timeout, CallWatch* calls);

}  // namespace iterand
