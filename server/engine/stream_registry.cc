#include "server/engine/stream_registry.h"

#include <malloc.h>

#include <algorithm>
#include <utility>

#include "iterate/plan.h"
#include "iterate/recipe.h"

namespace iterand {
namespace {

// When streams of this many bytes leave, the memory is returned to the system. The C library would keep their pools,
// which are many pieces of the same size, for later use.
constexpr std::size_t kReturnedBytes = std::size_t{64} << 20;

// The estimate of core time before anything was measured, per token and per floating-point operation, in seconds.
constexpr double kTokenSeconds = 10e-9;
constexpr double kFlopSeconds = 0.1e-9;

}  // namespace

// ---- SharedStream --------------------------------------------------------------------------------------------------

SharedStream::SharedStream(std::shared_ptr<Stream> stream, int max_workspaces, bool map_buffers)
    : stream_(std::move(stream)),
      allocator_(std::make_shared<SegmentAllocator>(*stream_, map_buffers)),
      cost_(stream_->Cost()),
      serial_lanes_(stream_->recipe().has_pool() && stream_->recipe().pool().endless()),
      max_workspaces_(static_cast<std::size_t>(max_workspaces)) {}

bool SharedStream::IsBusy(std::uint32_t lane) const {
  absl::MutexLock lock(&mutex_);
  return busy_lanes_.contains(lane);
}

void SharedStream::SetBusy(std::uint32_t lane, bool busy) {
  absl::MutexLock lock(&mutex_);
  if (busy) {
    busy_lanes_.insert(lane);
  } else {
    busy_lanes_.erase(lane);
  }
}

bool SharedStream::HasWorkspace() const {
  absl::MutexLock lock(&mutex_);
  return !workspaces_.empty() || workspaces_made_ < max_workspaces_;
}

std::unique_ptr<Workspace> SharedStream::TakeWorkspace() {
  absl::MutexLock lock(&mutex_);
  if (workspaces_.empty()) {
    ++workspaces_made_;
    return nullptr;
  }
  std::unique_ptr<Workspace> workspace = std::move(workspaces_.back());
  workspaces_.pop_back();
  return workspace;
}

void SharedStream::ReturnWorkspace(std::unique_ptr<Workspace> workspace) {
  absl::MutexLock lock(&mutex_);
  workspaces_.push_back(std::move(workspace));
}

double SharedStream::CountSegment(double seconds) {
  absl::MutexLock lock(&mutex_);
  seconds_ += seconds;
  ++segments_;
  return seconds_ / static_cast<double>(segments_);
}

bool SharedStream::CostsAtLeast(double seconds_per_byte) const {
  absl::MutexLock lock(&mutex_);
  return seconds_ >= seconds_per_byte * static_cast<double>(segment_bytes()) * static_cast<double>(segments_);
}

double SharedStream::SecondsPerSegment() const {
  absl::MutexLock lock(&mutex_);
  if (segments_ > 0) return seconds_ / static_cast<double>(segments_);
  return static_cast<double>(stream_->segment_sequences()) * stream_->length() *
         (kTokenSeconds + kFlopSeconds * cost_.flops_per_token);
}

std::size_t SharedStream::EstimatedBytes() const {
  absl::MutexLock lock(&mutex_);
  if (workspaces_made_ == 0) return 0;
  return static_cast<std::size_t>(workspaces_made_ * cost_.workspace_bytes + cost_.endless_bytes);
}

// ---- StreamRegistry ------------------------------------------------------------------------------------------------

StreamRegistry::StreamRegistry(int max_workspaces, std::size_t idle_bytes,
                               std::shared_ptr<const SnapshotFolder> snapshots, bool map_buffers)
    : max_workspaces_(max_workspaces),
      idle_bytes_(idle_bytes),
      snapshots_(std::move(snapshots)),
      map_buffers_(map_buffers) {}

StreamRegistry::~StreamRegistry() = default;

absl::StatusOr<std::shared_ptr<SharedStream>> StreamRegistry::Open(const v1::Recipe& recipe, std::uint64_t seed) {
  absl::StatusOr<ResolvedRecipe> resolved = ResolveRecipe(recipe);
  if (!resolved.ok()) return resolved.status();
  std::shared_ptr<SharedStream> shared = Use(resolved->fingerprint(seed), nullptr);
  if (shared == nullptr) {
    const absl::StatusOr<std::shared_ptr<const StreamPlan>> plan = StreamPlan::Make(*std::move(resolved), seed);
    if (!plan.ok()) return plan.status();
    // Another thread may have opened the same stream meanwhile: then this one is dropped.
    shared = Use((*plan)->fingerprint(),
                 std::make_shared<SharedStream>(Stream::FromPlan(*plan, snapshots_), max_workspaces_, map_buffers_));
  }
  SharedStream* const used = shared.get();
  return std::shared_ptr<SharedStream>(used, [this, shared = std::move(shared)](SharedStream* released) mutable {
    shared = nullptr;  // the registry holds it, too
    Release(released);
  });
}

std::shared_ptr<SharedStream> StreamRegistry::Use(const Fingerprint& fingerprint,
                                                  std::shared_ptr<SharedStream> otherwise) {
  absl::MutexLock lock(&mutex_);
  const auto found = std::find_if(streams_.begin(), streams_.end(),
                                  [&](const Item& item) { return item.stream->stream().fingerprint() == fingerprint; });
  if (found != streams_.end()) {
    streams_.splice(streams_.begin(), streams_, found);
  } else if (otherwise != nullptr) {
    streams_.push_front({std::move(otherwise)});
  } else {
    return nullptr;
  }
  Item& item = streams_.front();
  if (item.users++ == 0) item.stream->allocator()->KeepFree(true);
  return item.stream;
}

void StreamRegistry::Release(const SharedStream* stream) {
  std::vector<std::shared_ptr<SharedStream>> garbage;
  std::size_t freed = 0;
  {
    absl::MutexLock lock(&mutex_);
    const auto item =
        std::find_if(streams_.begin(), streams_.end(), [&](const Item& i) { return i.stream.get() == stream; });
    if (--item->users > 0) return;
    item->stream->allocator()->KeepFree(false);
    streams_.splice(streams_.begin(), streams_, item);
    freed = TrimIdle(garbage);
  }
  garbage.clear();
#ifdef __GLIBC__
  if (freed >= kReturnedBytes) malloc_trim(0);
#endif
}

std::size_t StreamRegistry::TrimIdle(std::vector<std::shared_ptr<SharedStream>>& garbage) {
  std::size_t streams = 0;
  std::size_t bytes = 0;
  std::size_t freed = 0;
  for (auto it = streams_.begin(); it != streams_.end();) {
    const auto at = it++;
    if (at->users > 0) continue;
    const std::size_t more = at->stream->EstimatedBytes();
    if (streams < kIdleStreams && bytes + more <= idle_bytes_) {
      ++streams;
      bytes += more;
    } else {
      freed += more;
      garbage.push_back(std::move(at->stream));
      streams_.erase(at);
    }
  }
  return freed;
}

StreamRegistry::Stats StreamRegistry::stats() const {
  Stats stats;
  absl::MutexLock lock(&mutex_);
  for (const Item& item : streams_) {
    (item.users > 0 ? stats.used_bytes : stats.idle_bytes) += item.stream->EstimatedBytes();
    if (item.users == 0) ++stats.idle_streams;
  }
  return stats;
}

}  // namespace iterand
