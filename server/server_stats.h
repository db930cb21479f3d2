// What a server has done since it started, and what it holds now.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "server/connection_limits.h"
#include "server/engine/engine_stats.h"

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

// Of the calls.
struct CallStats {
  // Since the start.
  std::uint64_t sequences = 0;  // handed to streams and reads
  std::uint64_t tokens = 0;
  std::uint64_t batches = 0;
  std::uint64_t batch_bytes = 0;        // batch messages handed to the transport
  std::uint64_t programs_executed = 0;  // by Execute
  std::uint64_t steps_executed = 0;
  double wait_seconds = 0;            // of streams whose client was ready for a batch that was not
  std::uint64_t streams_started = 0;  // calls of Stream, Read and Execute
  std::array<std::array<std::uint64_t, kStatusCodes>, kMethods.size()> calls_ended{};  // refused ones too
  // Now.
  int streams_open = 0;
};

struct ServerStats : EngineStats, CallStats {
  ConnectionStats connections;
};

}  // namespace iterand
