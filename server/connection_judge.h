// Distinguishes honest connections from those that cost a server more than their calls are worth, by counts alone.
//
// gRPC 1.51 parses frames on its own threads and does not bound what a peer sends without making calls: endless header
// blocks, resets, pings, settings. Frames of an encrypted connection cannot be seen from outside, but their bytes can
// be counted, and so can calls.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "server/connection_limits.h"

namespace iterand {

// Totals of one connection since it began.
struct ConnectionCounts {
  // From the kernel; 0 for a unix socket.
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  // Of streams, as HTTP/2 calls them: calls, whether or not the service has seen them. `started` includes the others.
  std::uint64_t started = 0;
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;  // the peer reset them
  std::uint64_t messages = 0;
  // From the calls that the service has seen.
  std::uint64_t accounted_bytes = 0;  // of the requests of authorized calls
  std::uint64_t unauthenticated = 0;  // calls that ended so
  std::uint64_t awaited_bytes = 0;    // that the requests of authorized calls on their way now may have

  std::uint64_t open() const {
    const std::uint64_t ended = succeeded + failed;
    return started > ended ? started - ended : 0;
  }

  // Without a call that may be served, a connection is of use only for health checks and reflection.
  bool stranger() const { return accounted_bytes == 0; }
};

class ConnectionJudge {
 public:
  using Time = std::chrono::steady_clock::time_point;

  ConnectionJudge(const ConnectionLimits& limits, Time now) : limits_(limits), then_(now) {}

  // Why the connection must be closed, if it must. `lenient` is false for peers that were recently closed for cause.
  std::optional<ConnectionEnd> Judge(const ConnectionCounts& counts, Time now, bool lenient);

  // Bytes that no call accounts for, so far. Those of all connections together are bounded, too.
  double unaccounted() const { return unaccounted_; }

 private:
  const ConnectionLimits limits_;
  Time then_;
  ConnectionCounts before_;
  double flood_ = 0;            // bytes that no call accounts for, less what each second allows
  double stuck_ = 0;            // bytes since anything began or ended
  double resets_ = 0;           // calls, less what each second allows
  double unauthenticated_ = 0;  // calls, less what each second allows
  double awaited_ = 0;          // bytes that requests on their way may still have
  double unaccounted_ = 0;
};

// The most that all connections together may have sent that no call accounts for, in bytes. gRPC may take twenty times
// as much memory for it.
inline constexpr double kMostUnaccounted = 8 << 20;

}  // namespace iterand
