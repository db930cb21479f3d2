// SegmentCache: the segments that readers want or have, by (fingerprint, lane, segment), and those kept for others.
//
// Each wanted segment is one entry of the table for all its readers, so that readers of equal streams share it. An
// entry is queued, then running, then ready or failed. Ready entries that nobody holds stay as long as the cache has
// room; the least recently used ones leave first. The cache counts, keeps and evicts whole stripes.
//
// Not thread-safe: the engine's mutex guards the cache, its entries and its stripes, except where SegmentEntry says
// otherwise.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "iterate/stream.h"
#include "randnet/run_control.h"
#include "server/engine/fair_scheduler.h"
#include "server/engine/stripe_buffer.h"

namespace iterand {

struct SegmentKey {
  Fingerprint fingerprint;
  std::uint32_t lane;
  std::uint64_t segment;
  std::uint64_t owner = 0;  // the one reader that may have this entry; 0: any reader
  friend bool operator==(const SegmentKey&, const SegmentKey&) = default;
};

struct SegmentKeyHash {
  std::size_t operator()(const SegmentKey& key) const;
};

struct SegmentEntry;

// The segments of a stripe that are in the cache.
struct CachedStripe;

// A stripe, and its place in the cache.
struct Stripe {
  Stripe(std::shared_ptr<SegmentAllocator> allocator, std::uint32_t lanes) : buffer(std::move(allocator), lanes) {}
  StripeBuffer buffer;  // thread-safe
  bool in_cache = false;
  std::list<CachedStripe>::iterator cache_place;  // if in_cache
};

struct CachedStripe {
  std::shared_ptr<Stripe> stripe;
  std::vector<std::shared_ptr<SegmentEntry>> entries;
};

// A reader to be called when an entry is ready or has failed.
struct SegmentWaiter {
  std::shared_ptr<FairScheduler::Account> account;  // of the waiting reader
  std::shared_ptr<const std::function<void()>> on_ready;
  SegmentEntry* waits_for = nullptr;
};

// A segment that a reader has asked for. kReady and kFailed are final. After loading one of them with acquire order, a
// thread may read `segment` and `error` without the mutex.
struct SegmentEntry {
  enum class State { kQueued, kRunning, kReady, kFailed };

  SegmentKey key;
  std::shared_ptr<Stripe> stripe;
  std::uint32_t stripe_lane = 0;  // its place there
  std::atomic<State> state{State::kQueued};
  RunControl control;  // of its computation; stopped once nobody wants it. Thread-safe
  std::shared_ptr<const Segment> segment;
  absl::Status error;
  int holders = 0;
  std::vector<SegmentWaiter*> waiters;
  bool in_table = true;
  bool in_cache = false;

  State GetState() const { return state.load(std::memory_order_relaxed); }
};

class SegmentCache {
 public:
  struct Counters {
    std::uint64_t hits = 0;    // segments wanted that were ready, running or queued
    std::uint64_t misses = 0;  // segments wanted that had to be queued
    int queued = 0;            // entries that are queued now
  };

  // Keeps ready segments that nobody holds in up to `capacity` bytes.
  explicit SegmentCache(std::size_t capacity) : capacity_(capacity) {}

  // The entry of a segment, or null. The caller does not hold it yet.
  std::shared_ptr<SegmentEntry> Find(const SegmentKey& key) const;

  // Counts one more holder of an entry that Find gave, and a use of its stripe.
  void AddHolder(SegmentEntry& entry);

  // A new queued entry with one holder. It replaces an entry of that key, whose holders keep it.
  std::shared_ptr<SegmentEntry> Insert(const SegmentKey& key, std::shared_ptr<Stripe> stripe,
                                       std::uint32_t stripe_lane);

  // Counts one holder fewer. Without holders, a queued entry is dropped and a running one is stopped.
  void ReleaseHolder(const std::shared_ptr<SegmentEntry>& entry);

  // The entry's computation begins. It must be queued.
  void SetRunning(SegmentEntry& entry);

  // Its computation has ended. With `keep` the cache keeps it; what is evicted for it is appended to `garbage`, to be
  // freed without the mutex. The waiters' callbacks are appended to `notify`, to be called without the mutex.
  using Callback = std::shared_ptr<const std::function<void()>>;
  void SetReady(const std::shared_ptr<SegmentEntry>& entry, std::shared_ptr<const Segment> segment, bool keep,
                std::vector<std::shared_ptr<SegmentEntry>>& garbage, std::vector<Callback>& notify);
  void SetFailed(const std::shared_ptr<SegmentEntry>& entry, absl::Status error, std::vector<Callback>& notify);

  std::size_t bytes() const { return bytes_; }  // of the stripes in the cache
  std::size_t entries() const { return table_.size(); }
  const Counters& counters() const { return counters_; }

 private:
  void Erase(const std::shared_ptr<SegmentEntry>& entry);
  void AddToCache(const std::shared_ptr<SegmentEntry>& entry, std::vector<std::shared_ptr<SegmentEntry>>& garbage);
  static void ReleaseWaiters(SegmentEntry& entry, std::vector<Callback>& notify);

  const std::size_t capacity_;
  std::unordered_map<SegmentKey, std::shared_ptr<SegmentEntry>, SegmentKeyHash> table_;
  std::list<CachedStripe> cache_;  // most recently used first
  std::size_t bytes_ = 0;
  Counters counters_;
};

}  // namespace iterand
