// Names of the peers of sockets.
#pragma once

#include <sys/socket.h>

#include <string>

namespace iterand {

inline constexpr char kUnixGroup[] = "unix:";

struct Peer {
  std::string name;   // as gRPC names it: "ipv4:127.0.0.1:40000", "ipv6:%5B::1%5D:40000", "unix:"
  std::string group;  // what counts as one peer: an IPv4 address, an IPv6 network of 64 bits, or all of a unix socket
};

// `address` is what accept() gave.
Peer PeerOf(const sockaddr_storage& address);

}  // namespace iterand
