// What an engine has done since it started, and what it holds now.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "server/connection_limits.h"

namespace iterand {

enum class Method : std::uint8_t { kStream, kRead, kDescribe, kExecute };
inline constexpr std::array<const char*, 4> kMethods = {"Stream", "Read", "Describe", "Execute"};
inline const char* MethodName(Method method) { return kMethods[static_cast<std::size_t>(method)]; }

// Of gRPC's status codes, by number.
inline constexpr std::array<const char*, 17> kCodes = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};
inline constexpr std::size_t kStatusCodes = kCodes.size();

struct EngineStats {
  // Since the start.
  std::uint64_t segments_generated = 0;
  std::uint64_t segments_cancelled = 0;  // given up under way, because nobody wanted them any more
  std::uint64_t segments_failed = 0;     // ended in an error
  std::uint64_t cache_hits = 0;          // segments wanted by a stream that were ready or under way
  std::uint64_t cache_misses = 0;        // segments wanted by a stream that had to be generated
  std::uint64_t sequences = 0;           // handed to streams and reads
  std::uint64_t tokens = 0;
  std::uint64_t batches = 0;
  std::uint64_t batch_bytes = 0;        // batch messages handed to the transport
  double generation_seconds = 0;        // core time of all threads
  std::uint64_t programs_executed = 0;  // by Execute
  std::uint64_t steps_executed = 0;
  double errand_seconds = 0;          // core time of all threads for Execute
  double wait_seconds = 0;            // of streams whose client was ready for a batch that was not
  std::uint64_t streams_started = 0;  // calls of Stream, Read and Execute
  std::array<std::array<std::uint64_t, kStatusCodes>, kMethods.size()> calls_ended{};  // refused ones too
  // Now.
  int streams_open = 0;
  int segments_queued = 0;  // wanted and not begun
  int segments_running = 0;
  int segments_replaying = 0;            // of these, those of endless pools that are being replayed to reach them
  std::uint64_t held_bytes = 0;          // of segments that streams hold or wait for; shared ones count for each
  std::uint64_t largest_held_bytes = 0;  // the most that one stream has held since the start
  std::uint64_t cache_bytes = 0;         // of segments in the cache
  // Workspaces and endless pools, estimated from the recipes: of streams in use, and of those kept to be used again.
  std::uint64_t used_stream_bytes = 0;
  std::uint64_t idle_stream_bytes = 0;
  int streams_idle = 0;
  ConnectionStats connections;
};

}  // namespace iterand
