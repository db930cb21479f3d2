// What the connections of a server may take, and what became of them.
#pragma once

#include <array>
#include <cstdint>

namespace iterand {

struct ConnectionLimits {
  int total = 2048;
  // Connections of one IPv4 address or one IPv6 network of 64 bits. Peers of a unix socket cannot be distinguished.
  int per_peer = 1536;
  // Calls that gRPC lets one connection have at a time. More end the connection, since gRPC holds a peer to this number
  // only after the peer has acknowledged it.
  int streams = 320;
  // Calls of all connections at a time, those included that have ended and still take memory.
  int total_streams = 4352;
};

// Why a connection is refused or closed by the server.
enum class ConnectionEnd : std::uint8_t {
  kTotal,            // refused: --max-connections
  kPeer,             // refused: --max-connections-per-peer
  kFiles,            // refused: the process or the machine has no descriptor or memory left
  kIdle,             // closed, without a call in progress, to make room for another one
  kCalls,            // closed: too many calls in progress
  kResets,           // closed: too many calls that the peer gave up
  kUnauthenticated,  // closed: too many calls without the token
  kFlood,            // closed: too many bytes that no call accounts for
};
inline constexpr std::array<const char*, 8> kConnectionEnds = {
    "max_connections", "max_connections_per_peer", "no_descriptors",  "idle",
    "too_many_calls",  "too_many_resets",          "unauthenticated", "flood"};
// What the log says of it, after the peer.
const char* Describe(ConnectionEnd why);

inline constexpr bool IsRefusal(ConnectionEnd end) { return end <= ConnectionEnd::kFiles; }

struct ConnectionStats {
  int open = 0;                // now
  std::uint64_t accepted = 0;  // since the start
  std::array<std::uint64_t, kConnectionEnds.size()> ended{};
};

}  // namespace iterand
