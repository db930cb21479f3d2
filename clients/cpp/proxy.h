// Which HTTP proxy a connection goes through.
//
// gRPC reads grpc_proxy, https_proxy and http_proxy, also for this machine's own addresses and against NO_PROXY. The
// decision is made here instead, so that errors can name the proxy.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace iterand {

struct Proxy {
  std::string url;       // without user and password
  std::string variable;  // of the environment, that names it
};

// The proxy for "host:port" or "unix:path"; none for a direct connection. Loopback addresses, unix sockets and what
// no_grpc_proxy, no_proxy or NO_PROXY name are reached directly.
std::optional<Proxy> ProxyFor(const std::string& address);

// Whether an entry of no_proxy names a host: *, a name with all below it, an address or a network (CIDR), each with or
// without a port.
bool NoProxyMatches(absl::string_view host, absl::string_view port, absl::string_view entry);

}  // namespace iterand
