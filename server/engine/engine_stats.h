// What an engine has done since it started, and what it holds now.
#pragma once

#include <cstdint>

namespace iterand {

struct EngineStats {
  // Since the start.
  std::uint64_t segments_generated = 0;
  std::uint64_t segments_cancelled = 0;  // stopped in progress, because no reader needed them any more
  std::uint64_t segments_failed = 0;     // ended in an error
  std::uint64_t cache_hits = 0;          // segments wanted by a reader that were ready, in progress or queued
  std::uint64_t cache_misses = 0;        // segments wanted by a reader that had to be queued
  double generation_seconds = 0;         // core time of all threads
  double background_seconds = 0;         // core time of all threads for background tasks
  // Now.
  int segments_queued = 0;               // wanted and not begun
  int segments_running = 0;              // in progress
  int segments_replaying = 0;            // of these, those of endless pools that are being replayed to reach them
  std::uint64_t held_bytes = 0;          // of segments that readers hold or wait for; shared ones count for each
  std::uint64_t largest_held_bytes = 0;  // the most that one reader has held since the start
  std::uint64_t cache_bytes = 0;         // of segments in the cache
  // Workspaces and endless pools, estimated from the recipes: of streams in use, and of those kept to be used again.
  std::uint64_t used_stream_bytes = 0;
  std::uint64_t idle_stream_bytes = 0;
  int streams_idle = 0;
};

}  // namespace iterand
