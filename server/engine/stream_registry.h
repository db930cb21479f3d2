// StreamRegistry: the streams that are open in an engine, one for each fingerprint, and some that are no longer used.
//
// Streams without users are kept with their workspaces and the pools of their lanes, so that a client of many small
// reads finds them again. The least recently used ones leave first: at most kIdleStreams are kept, within a bound in
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/stream.h"
#include "server/engine/stripe_buffer.h"

namespace iterand {

// SharedStream: an open stream with the workspaces that its segments are generated in. Thread-safe.
class SharedStream {
 public:
  // At most `max_workspaces` segments are in progress at a time. `map_buffers`: see EngineOptions.
  SharedStream(std::shared_ptr<Stream> stream, int max_workspaces, bool map_buffers = false);
  SharedStream(const SharedStream&) = delete;
  SharedStream& operator=(const SharedStream&) = delete;

  const Stream& stream() const { return *stream_; }
  const std::shared_ptr<SegmentAllocator>& allocator() const { return allocator_; }

  // Memory of one of its segments, in bytes.
  std::size_t segment_bytes() const { return allocator_->segment_bytes(); }

  // Whether each segment of a lane needs the one before: those of an endless pool.
  bool serial_lanes() const { return serial_lanes_; }

  // A lane with a segment in progress; only if serial_lanes().
  bool IsBusy(std::uint32_t lane) const;
  void SetBusy(std::uint32_t lane, bool busy);

  // Whether a workspace is free or may be made.
  bool HasWorkspace() const;
  // Takes a free workspace. If there is none, counts one more and returns null: the caller must make it, without locks.
  std::unique_ptr<Workspace> TakeWorkspace();
  void ReturnWorkspace(std::unique_ptr<Workspace> workspace);

  // Records what a segment has cost, in seconds of core time. Returns the mean of all.
  double CountSegment(double seconds);
  // Whether segments cost at least this much core time per byte, on average. The average decides, not each segment:
  // stripes are kept whole, so one segment that was slow by chance would keep all of a cheap stripe.
  bool CostsAtLeast(double seconds_per_byte) const;
  // Core time of a segment: the average so far or, before there was one, an estimate from the recipe.
  double SecondsPerSegment() const;

  // Estimated memory of its workspaces and endless lanes.
  std::size_t EstimatedBytes() const;

 private:
  const std::shared_ptr<Stream> stream_;
  const std::shared_ptr<SegmentAllocator> allocator_;
  const StreamCost cost_;
  const bool serial_lanes_;
  const std::size_t max_workspaces_;

  mutable absl::Mutex mutex_;
  std::size_t workspaces_made_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<Workspace>> workspaces_ ABSL_GUARDED_BY(mutex_);  // free
  std::set<std::uint32_t> busy_lanes_ ABSL_GUARDED_BY(mutex_);
  double seconds_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t segments_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Thread-safe.
class StreamRegistry {
 public:
  // Streams that are kept without users.
  static constexpr std::size_t kIdleStreams = 16;

  struct Stats {
    std::uint64_t used_bytes = 0;  // SharedStream::EstimatedBytes of streams in use
    std::uint64_t idle_bytes = 0;  // and of those that nobody uses
    int idle_streams = 0;
  };

  // Keeps idle streams of up to `idle_bytes` bytes in all. `snapshots` is where endless pools are kept; null: nowhere.
  // `map_buffers`: see EngineOptions.
  StreamRegistry(int max_workspaces, std::size_t idle_bytes, std::shared_ptr<const SnapshotFolder> snapshots,
                 bool map_buffers = false);
  ~StreamRegistry();  // all pointers that Open gave must be gone
  StreamRegistry(const StreamRegistry&) = delete;
  StreamRegistry& operator=(const StreamRegistry&) = delete;

  // Opens a stream, or finds it if one of its fingerprint is open or was recently. It is in use as long as somebody
  // holds the pointer. Errors are those of Stream::Open.
  absl::StatusOr<std::shared_ptr<SharedStream>> Open(const v1::Recipe& recipe, std::uint64_t seed);

  Stats stats() const;

 private:
  struct Item {
    std::shared_ptr<SharedStream> stream;
    int users = 0;
  };

  // Adds a user to the stream of this fingerprint. If none is open, adds `otherwise`, or returns null if that is null.
  std::shared_ptr<SharedStream> Use(const Fingerprint& fingerprint, std::shared_ptr<SharedStream> otherwise);
  void Release(const SharedStream* stream);
  // Appends what is not kept to `garbage`, and returns its bytes.
  std::size_t TrimIdle(std::vector<std::shared_ptr<SharedStream>>& garbage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int max_workspaces_;
  const std::size_t idle_bytes_;
  const std::shared_ptr<const SnapshotFolder> snapshots_;
  const bool map_buffers_;

  mutable absl::Mutex mutex_;
  std::list<Item> streams_ ABSL_GUARDED_BY(mutex_);  // most recently used first
};

}  // namespace iterand
