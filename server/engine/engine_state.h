// EngineState: what an engine's threads, readers and background tasks share, and the mutex that guards it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "iterate/stream.h"
#include "server/engine/engine_stats.h"
#include "server/engine/fair_scheduler.h"
#include "server/engine/run_queue.h"
#include "server/engine/segment_cache.h"
#include "server/engine/stream_registry.h"

namespace iterand {

struct EngineOptions {
  int threads = 0;                   // cores to use at a time; 0: all
  std::size_t cache_bytes = 0;       // of ready segments kept beyond those that readers hold
  std::size_t readahead_bytes = 0;   // of segments that a reader wants ahead
  std::size_t max_stream_bytes = 0;  // of segments that a reader may hold at all
  // Whether large buffers of tokens are mapped by themselves, so that they return to the system when they are freed.
  // For processes that keep the malloc of the system as it is. The server sets malloc to do so, which costs less.
  bool map_buffers = false;
  // Of streams that are kept without users: their workspaces, and the lanes of endless pools.
  std::size_t idle_bytes = std::size_t{256} << 20;
  // Streams whose segments cost less core time per byte than this, on average, are not kept in the cache. The default
  // is 250 MB per second.
  double cache_seconds_per_byte = 4e-9;
  std::shared_ptr<const SnapshotFolder> snapshots = nullptr;  // where endless pools are kept; null: nowhere
  // Called with a line of text about a long replay, from a thread of the engine that holds its mutex. Null: never.
  std::function<void(const std::string& line)> report = nullptr;
};

struct EngineState {
  explicit EngineState(const EngineOptions& resolved)
      : options(resolved),
        cache(resolved.cache_bytes),
        streams(resolved.threads, resolved.idle_bytes, resolved.snapshots, resolved.map_buffers) {}

  const EngineOptions options;  // with a number of threads

  absl::Mutex mutex;
  SegmentCache cache ABSL_GUARDED_BY(mutex);
  FairScheduler scheduler ABSL_GUARDED_BY(mutex);
  RunQueue queue ABSL_GUARDED_BY(mutex);
  // The fields that other parts count themselves are set by Engine::stats.
  EngineStats stats ABSL_GUARDED_BY(mutex);

  StreamRegistry streams;                    // thread-safe
  std::atomic<std::uint64_t> next_owner{1};  // for SegmentKey::owner

  // Threads of the engine that run, each on a core of its own, and that wait for work.
  int cores_in_use ABSL_GUARDED_BY(mutex) = 0;
  int idle_workers ABSL_GUARDED_BY(mutex) = 0;
  absl::CondVar work_added;

  // Wakes threads for this many new tasks, as far as there are free cores.
  void WakeWorkers(int tasks) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    int wake = options.threads - cores_in_use;
    wake = wake < idle_workers ? wake : idle_workers;
    if (tasks < wake) wake = tasks;
    for (int i = 0; i < wake; ++i) work_added.Signal();
  }
};

}  // namespace iterand
