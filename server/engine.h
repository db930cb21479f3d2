// The engine: shares a fixed number of cores among all open streams.
//
// The unit of work is a segment, or some 20 ms of a longer one, at the end of a round. A consumer opens a Feed, an
// arithmetic progression of indices, and takes rows from it in order; the feed keeps a bounded number of segments
// wanted, under way or ready ahead of what has been taken. The threads always work for the feed that has had the least
// core time so far (start-time fair queueing, Goyal et al. 1996), so that streams share the cores equally whatever
// their segments cost. A feed that nobody takes from wants nothing more; a closed feed's segments are dropped from the
// queue, and given up under way unless another feed wants them.
//
// Feeds of the same fingerprint share segments: each (fingerprint, lane, segment) is one entry of a table, which is
// queued, running or ready; whoever wants it joins it. Ready entries that nobody holds stay while the cache has room,
// least recently used first out. Segments of streams that are made faster than memory could hold them for others are
// not kept: the cache is for what costs core time, and cheap streams stay within the processor's own caches.
//
// A feed that goes through lanes in turn has their segments generated into stripes (server/stripe.h). Memory is counted
// by whole stripes: the cache keeps and evicts them whole, and a feed is charged for every stripe of which it holds a
// segment, be it one of many.
//
// Other work shares the threads as errands: pieces of some milliseconds, served by the same account of core time.
//
// A segment that has been begun keeps its workspace until it is whole, so a stream has no more of them under way than
// there are threads, and those are gone on with before others are begun.
//
// Segments of an endless pool depend on the one before, so at most one of a lane is under way, the lowest first. To
// reach one that lies far ahead the pool is replayed, segment by segment, each a turn of its own: whoever reads other
// streams has his turn in between, and who reads that lane waits.
//
// Streams that nobody uses any more are kept for a while with their workspaces and the pools of their lanes, so that a
// client of many small reads finds them again: those used last, within a bound in bytes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "iterate/stream.h"
#include "server/engine_stats.h"
#include "server/stripe.h"

namespace iterand {

struct EngineOptions {
  int threads = 0;                 // 0: one a core
  std::size_t cache_bytes = 0;     // of ready segments kept beyond those that feeds hold
  std::size_t prefetch_bytes = 0;  // of segments that a feed wants ahead
  std::size_t queue_bytes = 0;     // of segments that a feed may hold at all
  // Of streams kept though nobody uses them: their workspaces, and the lanes of endless pools.
  std::size_t idle_bytes = std::size_t{256} << 20;
  // Streams whose segments cost less core time a byte than this, on average, are not kept in the cache. The default is
  // 250 MB a second.
  double cache_seconds_per_byte = 4e-9;
  std::shared_ptr<const SnapshotFolder> snapshots = nullptr;  // where endless pools are kept; null: nowhere
};

class Engine;

// What fairness counts for one consumer of core time. Outlives the consumer while a thread works for it. Guarded by
// Engine::mutex_.
struct CoreAccount {
  double virtual_time = 0;     // seconds
  double task_seconds = 1e-3;  // expected of a segment or piece; a moving average of what was measured
  bool measured = false;
  int unmeasured = 0;  // tasks since the last measured one
  double core_seconds = 0;
  int running = 0;
};

// A stream that is open in an engine, shared by all feeds of its fingerprint. Opaque but for the stream itself. It is
// in use as long as somebody holds a pointer to it.
class OpenStream {
 public:
  const Stream& stream() const { return *stream_; }

  // Memory of one of its segments, in bytes.
  std::size_t segment_bytes() const { return pool_->segment_bytes(); }

 private:
  friend class Engine;
  friend class Feed;
  explicit OpenStream(std::shared_ptr<Stream> stream);

  // Estimated memory of its workspaces and endless lanes. Under Engine::mutex_.
  std::size_t KeptBytes() const;

  const std::shared_ptr<Stream> stream_;
  const std::shared_ptr<SegmentPool> pool_;
  const StreamCost cost_;
  const bool serial_lanes_;                             // an endless pool
  int users_ = 0;                                       // pointers that Engine::Open gave; guarded by Engine::mutex_
  std::size_t workspaces_made_ = 0;                     // guarded by Engine::mutex_
  std::vector<std::unique_ptr<Workspace>> workspaces_;  // idle ones; guarded by Engine::mutex_
  std::set<std::uint32_t> busy_lanes_;                  // if serial_lanes_; guarded by Engine::mutex_
  // What its segments have cost so far. Not one by one: as a stripe is kept whole, one segment that was slow by chance
  // would keep all of a cheap one. Guarded by Engine::mutex_.
  double seconds_ = 0;
  double bytes_ = 0;
};

// One consumer's sequences, in order: first, first + stride, ... Used by one thread at a time.
class Feed {
 public:
  // Receives a row: place `offset` of a segment.
  using Sink = absl::FunctionRef<void(const std::shared_ptr<const Segment>& segment, std::uint32_t offset)>;

  ~Feed();  // closes
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  // Hands over the next rows, at most `rows`, and returns how many. If it is fewer and rows remain, `on_ready` is
  // called once, from a thread of the engine, when there are more. Errors are those of Stream::GenerateSegment.
  absl::StatusOr<int> Take(int rows, Sink sink);

  std::uint64_t next_index() const { return next_index_; }  // of the next row that Take hands over
  std::uint64_t remaining() const { return remaining_; }    // rows
  const OpenStream& open() const { return *open_; }

  // Lets everything go: queued work is dropped, work under way is given up. Take must not be called any more.
  void Close();

  // Core time spent for this feed.
  double core_seconds() const;

 private:
  friend class Engine;

  // A segment that somebody wants. Its state changes under Engine::mutex_; kReady and kFailed are final, and `segment`
  // and `error` may then be read without it.
  enum class State { kQueued, kRunning, kReady, kFailed };
  struct Key {
    Fingerprint fingerprint;
    std::uint32_t lane;
    std::uint64_t segment;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const;
  };
  struct Entry;
  struct Stripe;
  // A stripe in the cache, and its segments that are kept.
  struct Kept {
    std::shared_ptr<Stripe> stripe;
    std::vector<std::shared_ptr<Entry>> entries;
  };
  // Guarded by Engine::mutex_, but for the memory.
  struct Stripe {
    Stripe(std::shared_ptr<SegmentPool> pool, std::uint32_t lanes) : memory(std::move(pool), lanes) {}
    StripeMemory memory;
    bool in_cache = false;
    std::list<Kept>::iterator cache_place;  // if in_cache
  };
  struct Entry {
    Key key;
    std::shared_ptr<Stripe> stripe;
    std::uint32_t stripe_lane = 0;  // its place there
    std::atomic<State> state{State::kQueued};
    std::atomic<bool> cancelled{false};  // nobody wants it any more
    std::shared_ptr<const Segment> segment;
    absl::Status error;
    int holders = 0;             // feeds
    std::vector<Feed*> waiters;  // feeds to notify
    bool in_table = true;
    bool in_cache = false;
  };
  // One lane of the progression: the rows slot, slot + slots, slot + 2 slots, ... of the feed.
  struct Slot {
    std::uint32_t lane = 0;
    std::uint64_t first_place = 0;
    std::uint64_t place = 0;       // of the next row
    std::uint32_t offset = 0;      // place mod segment_sequences
    std::shared_ptr<Entry> entry;  // that place lies in; null if the next row begins one
  };

  Feed(Engine* engine, std::shared_ptr<OpenStream> open, std::function<void()> on_ready);
  absl::Status Start(std::uint64_t first, std::uint64_t stride, std::uint64_t count);

  // These run under Engine::mutex_.

  // Wants more, as far as memory allows; at least one segment, if `must` and none is wanted.
  void Refill(bool must);
  // The segment at which the rows of `slot` are after `round` rounds, or null if it must wait for memory.
  std::shared_ptr<Entry> Acquire(const Slot& slot, std::uint64_t round, bool must);
  // Lanes of the stripe that this segment is best generated to, the first of its number.
  std::uint32_t StripeLanes(const Slot& slot, std::uint64_t round) const;
  // Of done_, and Refill.
  void LetGo(std::vector<std::shared_ptr<Entry>>& garbage, bool must);

  Engine* const engine_;
  const std::shared_ptr<OpenStream> open_;
  const std::shared_ptr<const std::function<void()>> on_ready_;
  const std::shared_ptr<CoreAccount> account_ = std::make_shared<CoreAccount>();

  std::uint64_t stride_ = 1;
  std::uint64_t step_ = 1;    // places from row to row of a slot
  std::uint64_t common_ = 1;  // lanes from one to the next of those that are read
  bool striped_ = false;      // reads lanes in turn, and enough for stripes
  std::uint64_t count_ = 0;
  std::uint64_t remaining_ = 0;
  std::uint64_t next_index_ = 0;
  std::vector<Slot> slots_;
  std::size_t slot_ = 0;                      // of the next row
  std::vector<std::shared_ptr<Entry>> done_;  // taken, not yet released

  // Guarded by Engine::mutex_, except that ahead_ is changed by the consuming thread alone.
  std::deque<std::shared_ptr<Entry>> ahead_;             // wanted, in the order in which rows begin them
  using Want = std::pair<std::uint64_t, std::uint32_t>;  // (round of all slots, slot) at which a segment is begun
  std::priority_queue<Want, std::vector<Want>, std::greater<>> wants_;
  std::deque<std::shared_ptr<Entry>> todo_;         // wanted and perhaps not begun by anybody
  std::unordered_map<const Stripe*, int> stripes_;  // of which segments are held, and how many
  std::size_t held_bytes_ = 0;                      // of stripes_
  std::size_t max_bytes_ = 0;
  std::size_t in_use_bytes_ = 0;      // of the segments that must be held at once, in memory of our own
  std::shared_ptr<Stripe> stripe_;    // of several lanes, for the segments that are wanted next; one of stripes_
  std::uint64_t stripe_segment_ = 0;  // their number
  std::shared_ptr<Entry> waiting_for_;
  bool closed_ = true;
};

// Work that is not a segment: pieces, one after another, that threads of the engine do in turn with the feeds'
// segments. A piece should take no more than some milliseconds, since whoever else waits for a thread waits for its
// end.
class Errand {
 public:
  explicit Errand(Engine* engine) : engine_(engine) {}
  ~Errand();  // a piece that has not begun is dropped
  Errand(const Errand&) = delete;
  Errand& operator=(const Errand&) = delete;

  // Has `piece` called once, from a thread of the engine. The piece before it must have begun.
  void Post(std::function<void()> piece);

 private:
  friend class Engine;

  Engine* const engine_;
  const std::shared_ptr<CoreAccount> account_ = std::make_shared<CoreAccount>();
  std::function<void()> piece_;  // that waits, if any; guarded by Engine::mutex_
};

class Engine {
 public:
  explicit Engine(const EngineOptions& options);
  ~Engine();  // all feeds, errands and pointers to streams must be gone
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Opens a stream, or finds it if one of its fingerprint is open or was lately. Errors are those of Stream::Open.
  absl::StatusOr<std::shared_ptr<OpenStream>> Open(const v1::Recipe& recipe, std::uint64_t seed);

  // A feed of the `count` indices first, first + stride, ... Errors: OutOfRange if they exceed 2^64 - 1,
  // ResourceExhausted if the feed would have to hold more than queue_bytes.
  absl::StatusOr<std::unique_ptr<Feed>> NewFeed(std::shared_ptr<OpenStream> open, std::uint64_t first,
                                                std::uint64_t stride, std::uint64_t count,
                                                std::function<void()> on_ready);

  int threads() const { return static_cast<int>(threads_.size()); }

  // What the engine knows; the fields about batches and streams are left at zero.
  EngineStats stats() const;

 private:
  friend class Feed;
  friend class Errand;
  using Entry = Feed::Entry;
  using Stripe = Feed::Stripe;
  // A segment of a stream, or a piece of an errand.
  struct Task {
    std::shared_ptr<CoreAccount> account;
    double expected_seconds = 0;  // charged in advance
    bool measured = false;        // else it counts as expected
    std::function<void()> piece;  // of an errand; else null
    std::shared_ptr<OpenStream> open;
    std::shared_ptr<Entry> entry;
    // Of a segment, once begun:
    std::optional<SegmentJob> job;  // begun
    std::shared_ptr<Segment> segment;
    std::unique_ptr<Workspace> workspace;  // between two slices, if the job keeps it
    double seconds = 0;                    // core time of all slices
    std::uint64_t replay_rounds = 0;       // in all, if it has to be replayed to
    bool replay_told = false;              // in the log
  };
  // Core time of a task.
  class TaskMeter;
  // What is to be done after mutex_ is released.
  struct Leftovers {
    std::vector<std::shared_ptr<const std::function<void()>>> notify;
    std::vector<std::shared_ptr<Entry>> garbage;  // to be freed
  };

  void Work();
  // Adds a user to the open stream of this fingerprint. If there is none, adds `otherwise`, or if that is null too,
  // returns null.
  std::shared_ptr<OpenStream> UseOpen(const Fingerprint& fingerprint, std::shared_ptr<OpenStream> otherwise);
  void Release(std::shared_ptr<OpenStream> open);  // by one of its users
  static void CountReplay(Task& task);             // a slice of a replay is done

  // These run under mutex_.
  void Join(Entry& entry);
  std::shared_ptr<Entry> Add(const Feed::Key& key, std::shared_ptr<Stripe> stripe, std::uint32_t stripe_lane);
  void Drop(const std::shared_ptr<Entry>& entry);
  bool Pick(Task& task);
  Feed* NextFeed(std::size_t& place);
  Errand* NextErrand() const;
  bool MayBegin(const OpenStream& open) const {
    return !open.workspaces_.empty() || open.workspaces_made_ < threads_.size();
  }
  std::size_t TrimIdle(std::vector<std::shared_ptr<OpenStream>>& garbage);  // returns bytes
  void Charge(Task& task);                                                  // begins
  void Settle(Task& task, double seconds);                                  // ends
  void Complete(Task& task, absl::Status status, std::shared_ptr<const Segment> segment, double seconds,
                Leftovers& leftovers);
  void Keep(const std::shared_ptr<Entry>& entry, std::vector<std::shared_ptr<Entry>>& garbage);
  void Forget(const std::shared_ptr<Entry>& entry);
  void WakeThreads(int tasks);

  const EngineOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable work_;
  bool stopping_ = false;
  int idle_threads_ = 0;
  std::vector<Feed*> feeds_;
  std::vector<Errand*> errands_;  // with a piece that waits
  std::vector<Task> unfinished_;  // segments between two slices
  double virtual_time_ = 0;       // of the consumer that was served last
  std::unordered_map<Feed::Key, std::shared_ptr<Entry>, Feed::KeyHash> table_;
  std::list<Feed::Kept> cache_;  // most recently used first
  std::size_t cached_bytes_ = 0;
  std::list<std::shared_ptr<OpenStream>> open_streams_;  // most recently used first
  EngineStats stats_;
  std::vector<std::thread> threads_;
};

}  // namespace iterand
