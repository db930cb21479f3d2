// How many HTTP/2 streams gRPC has begun and released on each connection of this process, by its channelz interface.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"

namespace iterand {

struct StreamCounts {
  std::uint64_t started = 0;
  // Released, with all their memory: ended by the server, or before that.
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  std::uint64_t messages = 0;  // received
};

// Not thread-safe.
class StreamCounter {
 public:
  // Find looks for new connections once in each round.
  void BeginRound() { refreshed_ = false; }

  // gRPC's number of the connection of this peer ("ipv4:127.0.0.1:40000"); 0 if it has none yet, as until the
  // handshake is over.
  std::int64_t Find(const std::string& peer);

  // Empty once gRPC has released the connection.
  static std::optional<StreamCounts> Read(std::int64_t connection);

 private:
  void Refresh();

  bool refreshed_ = false;
  std::int64_t newest_ = 0;
  absl::flat_hash_map<std::string, std::int64_t> found_;  // not asked for yet
};

}  // namespace iterand
