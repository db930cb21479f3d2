#include "server/engine.h"

#include <malloc.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <limits>
#include <utility>

#include "iterate/plan.h"
#include "iterate/recipe.h"
#include "server/log.h"

namespace iterand {
namespace {

// Streams kept though nobody uses them, however little they take.
constexpr std::size_t kIdleStreams = 16;

// A stream that takes so much is given back to the system when it goes: the C library would keep its pools, which are
// many pieces of the same size, for whatever comes.
constexpr std::size_t kReturnedBytes = std::size_t{64} << 20;

// A thread works on a segment for so long, and then to the end of a round, before it turns to other work.
constexpr SegmentJob::Seconds kTimeSlice{0.02};

// Core time that a replay has taken when it is told of, in seconds: who waits for it should know by then.
constexpr double kToldReplaySeconds = 1;

// Core time of this thread. Not the time of day: a machine that is busy otherwise must not make a stream look dear.
double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Reading that clock is a system call, which would be a good part of the cheapest tasks: of these one in eight is
// measured.
constexpr double kCheapTaskSeconds = 50e-6;
constexpr int kMeasuredOneIn = 8;

// Generation never sleeps while there is work, so threads that send a batch, or a trainer on the same machine that has
// come for one, would wait for the end of its time slice, some milliseconds. Linux from 6.12 on lets a thread ask for
// shorter ones; its share of the core stays the same. Elsewhere nothing changes.
void AskForShortSlices() {
#ifdef SYS_sched_setattr
  struct Attributes {  // struct sched_attr of sched_setattr(2), whose header does not go with the C library's
    std::uint32_t size = sizeof(Attributes);
    std::uint32_t policy = 0;
    std::uint64_t flags = 0;
    std::int32_t nice = 0;
    std::uint32_t priority = 0;
    std::uint64_t runtime = 0;  // nanoseconds
    std::uint64_t deadline = 0;
    std::uint64_t period = 0;
  } attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0) return;
  attributes.runtime = 200'000;
  static_cast<void>(syscall(SYS_sched_setattr, 0, &attributes, 0));
#endif
}

}  // namespace

// ---- OpenStream ----------------------------------------------------------------------------------------------------

OpenStream::OpenStream(std::shared_ptr<Stream> stream)
    : stream_(std::move(stream)),
      pool_(std::make_shared<SegmentPool>(*stream_)),
      cost_(stream_->Cost()),
      serial_lanes_(stream_->recipe().has_pool() && stream_->recipe().pool().endless()) {}

std::size_t OpenStream::KeptBytes() const {
  if (workspaces_made_ == 0) return 0;
  return static_cast<std::size_t>(workspaces_made_ * cost_.workspace_bytes + cost_.endless_bytes);
}

// ---- Engine::TaskMeter ---------------------------------------------------------------------------------------------

class Engine::TaskMeter {
 public:
  explicit TaskMeter(const Task& task) : task_(task), start_(task.measured ? ThreadSeconds() : 0) {}
  double Seconds() const { return task_.measured ? ThreadSeconds() - start_ : task_.expected_seconds; }

 private:
  const Task& task_;
  const double start_;
};

// ---- Engine --------------------------------------------------------------------------------------------------------

Engine::Engine(const EngineOptions& options) : options_(options) {
  int threads = options.threads;
  if (threads <= 0) threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  threads_.reserve(static_cast<std::size_t>(threads));
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  unfinished_.clear();  // which use streams
}

absl::StatusOr<std::shared_ptr<OpenStream>> Engine::Open(const v1::Recipe& recipe, std::uint64_t seed) {
  absl::StatusOr<ResolvedRecipe> resolved = ResolveRecipe(recipe);
  if (!resolved.ok()) return resolved.status();
  std::shared_ptr<OpenStream> open = UseOpen(resolved->fingerprint(seed), nullptr);
  if (open == nullptr) {
    const absl::StatusOr<std::shared_ptr<const StreamPlan>> plan = StreamPlan::Make(*std::move(resolved), seed);
    if (!plan.ok()) return plan.status();
    // Another thread may have opened the same stream meanwhile: then this one is dropped.
    const std::shared_ptr<OpenStream> built(new OpenStream(Stream::FromPlan(*plan, options_.snapshots)));
    open = UseOpen((*plan)->fingerprint(), built);
  }
  OpenStream* const used = open.get();
  return std::shared_ptr<OpenStream>(used,
                                     [this, open = std::move(open)](OpenStream*) mutable { Release(std::move(open)); });
}

std::shared_ptr<OpenStream> Engine::UseOpen(const Fingerprint& fingerprint, std::shared_ptr<OpenStream> otherwise) {
  std::lock_guard lock(mutex_);
  const auto found = std::find_if(open_streams_.begin(), open_streams_.end(),
                                  [&](const auto& other) { return other->stream().fingerprint() == fingerprint; });
  if (found != open_streams_.end()) {
    open_streams_.splice(open_streams_.begin(), open_streams_, found);
  } else if (otherwise != nullptr) {
    open_streams_.push_front(std::move(otherwise));
  } else {
    return nullptr;
  }
  std::shared_ptr<OpenStream> open = open_streams_.front();
  if (open->users_++ == 0) open->pool_->KeepFree(true);
  return open;
}

void Engine::Release(std::shared_ptr<OpenStream> open) {
  std::vector<std::shared_ptr<OpenStream>> garbage;
  std::size_t freed = 0;
  {
    std::lock_guard lock(mutex_);
    if (--open->users_ > 0) return;
    open->pool_->KeepFree(false);
    const auto place = std::find(open_streams_.begin(), open_streams_.end(), open);
    open_streams_.splice(open_streams_.begin(), open_streams_, place);
    freed = TrimIdle(garbage);
  }
  open = nullptr;
  garbage.clear();
#ifdef __GLIBC__
  if (freed >= kReturnedBytes) malloc_trim(0);
#endif
}

std::size_t Engine::TrimIdle(std::vector<std::shared_ptr<OpenStream>>& garbage) {
  std::size_t streams = 0;
  std::size_t bytes = 0;
  std::size_t freed = 0;
  for (auto it = open_streams_.begin(); it != open_streams_.end();) {
    const auto at = it++;
    if ((*at)->users_ > 0) continue;
    const std::size_t more = (*at)->KeptBytes();
    if (streams < kIdleStreams && bytes + more <= options_.idle_bytes) {
      ++streams;
      bytes += more;
    } else {
      freed += more;
      garbage.push_back(std::move(*at));
      open_streams_.erase(at);
    }
  }
  return freed;
}

absl::StatusOr<std::unique_ptr<Feed>> Engine::NewFeed(std::shared_ptr<OpenStream> open, std::uint64_t first,
                                                      std::uint64_t stride, std::uint64_t count,
                                                      std::function<void()> on_ready) {
  std::unique_ptr<Feed> feed(new Feed(this, std::move(open), std::move(on_ready)));
  if (absl::Status status = feed->Start(first, stride, count); !status.ok()) return status;
  return feed;
}

EngineStats Engine::stats() const {
  std::lock_guard lock(mutex_);
  EngineStats stats = stats_;
  stats.cache_bytes = cached_bytes_;
  for (const Feed* feed : feeds_) stats.held_bytes += feed->held_bytes_;
  for (const std::shared_ptr<OpenStream>& open : open_streams_) {
    (open->users_ > 0 ? stats.used_stream_bytes : stats.idle_stream_bytes) += open->KeptBytes();
    if (open->users_ == 0) ++stats.streams_idle;
  }
  return stats;
}

void Engine::Join(Entry& entry) {
  ++stats_.cache_hits;
  if (entry.in_cache) cache_.splice(cache_.begin(), cache_, entry.stripe->cache_place);
  ++entry.holders;
}

std::shared_ptr<Feed::Entry> Engine::Add(const Feed::Key& key, std::shared_ptr<Stripe> stripe,
                                         std::uint32_t stripe_lane) {
  std::shared_ptr<Entry>& place = table_[key];
  if (place) place->in_table = false;  // whoever holds it keeps it
  place = std::make_shared<Entry>();
  place->key = key;
  place->stripe = std::move(stripe);
  place->stripe_lane = stripe_lane;
  place->holders = 1;
  ++stats_.cache_misses;
  ++stats_.segments_queued;
  return place;
}

void Engine::Drop(const std::shared_ptr<Entry>& entry) {
  if (--entry->holders > 0) return;
  switch (entry->state.load(std::memory_order_relaxed)) {
    case Feed::State::kQueued:
      --stats_.segments_queued;
      Forget(entry);
      break;
    case Feed::State::kRunning:
      entry->cancelled.store(true, std::memory_order_relaxed);
      Forget(entry);
      break;
    case Feed::State::kReady:
      if (!entry->in_cache) Forget(entry);
      break;
    case Feed::State::kFailed:
      break;
  }
}

void Engine::Forget(const std::shared_ptr<Entry>& entry) {
  if (!entry->in_table) return;
  entry->in_table = false;
  table_.erase(Feed::Key(entry->key));  // a copy: the table may hold the last reference to the entry
}

void Engine::Keep(const std::shared_ptr<Entry>& entry, std::vector<std::shared_ptr<Entry>>& garbage) {
  Stripe& stripe = *entry->stripe;
  if (stripe.memory.bytes() > options_.cache_bytes) return;
  if (stripe.in_cache) {
    cache_.splice(cache_.begin(), cache_, stripe.cache_place);
  } else {
    cache_.push_front({entry->stripe, {}});
    stripe.cache_place = cache_.begin();
    stripe.in_cache = true;
    cached_bytes_ += stripe.memory.bytes();
  }
  stripe.cache_place->entries.push_back(entry);
  entry->in_cache = true;
  while (cached_bytes_ > options_.cache_bytes) {
    const Feed::Kept oldest = std::move(cache_.back());
    cache_.pop_back();
    oldest.stripe->in_cache = false;
    cached_bytes_ -= oldest.stripe->memory.bytes();
    for (const std::shared_ptr<Entry>& out : oldest.entries) {
      out->in_cache = false;
      if (out->holders == 0) Forget(out);
      garbage.push_back(out);
    }
  }
}

void Engine::WakeThreads(int tasks) {
  if (idle_threads_ == 0) return;
  if (tasks >= idle_threads_) {
    work_.notify_all();
  } else {
    for (int i = 0; i < tasks; ++i) work_.notify_one();
  }
}

Feed* Engine::NextFeed(std::size_t& best_place) {
  Feed* best = nullptr;
  for (Feed* feed : feeds_) {
    std::deque<std::shared_ptr<Entry>>& todo = feed->todo_;
    const auto queued = [](const std::shared_ptr<Entry>& entry) {
      return entry->state.load(std::memory_order_relaxed) == Feed::State::kQueued;
    };
    while (!todo.empty() && !queued(todo.front())) todo.pop_front();  // another feed has had it generated
    if (todo.empty()) continue;
    if (best != nullptr && feed->account_->virtual_time >= best->account_->virtual_time) continue;
    std::size_t place = 0;
    if (feed->open_->serial_lanes_) {
      const std::set<std::uint32_t>& busy = feed->open_->busy_lanes_;
      while (place < todo.size() && (!queued(todo[place]) || busy.contains(todo[place]->key.lane))) ++place;
      if (place == todo.size()) continue;
    }
    best = feed;
    best_place = place;
  }
  return best;
}

bool Engine::Pick(Task& task) {
  std::size_t place = 0;
  Feed* const best = NextFeed(place);
  double first = best != nullptr ? best->account_->virtual_time : std::numeric_limits<double>::infinity();
  // Whoever may not begin a segment now waits for those of his stream, which have his turn.
  const OpenStream* const full = best != nullptr && !MayBegin(*best->open_) ? best->open_.get() : nullptr;
  const auto due = [&](const Task& begun) {
    return begun.open.get() == full ? std::min(begun.account->virtual_time, first) : begun.account->virtual_time;
  };
  const auto begun = std::min_element(unfinished_.begin(), unfinished_.end(),
                                      [&](const Task& a, const Task& b) { return due(a) < due(b); });
  const bool go_on = begun != unfinished_.end() && due(*begun) <= first;
  if (go_on) first = due(*begun);
  Errand* const errand = NextErrand();
  if (errand != nullptr && errand->account_->virtual_time < first) {
    std::erase(errands_, errand);
    task.account = errand->account_;
    task.piece = std::exchange(errand->piece_, nullptr);
    Charge(task);
    return true;
  }
  if (go_on) {
    task = std::move(*begun);
    unfinished_.erase(begun);
    Charge(task);
    return true;
  }
  if (best == nullptr) return false;
  task.account = best->account_;
  task.open = best->open_;
  task.entry = std::move(best->todo_[place]);
  best->todo_.erase(best->todo_.begin() + static_cast<std::ptrdiff_t>(place));
  if (task.open->serial_lanes_) task.open->busy_lanes_.insert(task.entry->key.lane);
  Charge(task);
  task.entry->state.store(Feed::State::kRunning, std::memory_order_relaxed);
  --stats_.segments_queued;
  ++stats_.segments_running;
  return true;
}

void Engine::Charge(Task& task) {
  CoreAccount& account = *task.account;
  virtual_time_ = std::max(virtual_time_, account.virtual_time);
  task.expected_seconds = account.task_seconds;
  task.measured =
      !account.measured || account.task_seconds >= kCheapTaskSeconds || ++account.unmeasured == kMeasuredOneIn;
  if (task.measured) account.unmeasured = 0;
  account.virtual_time += task.expected_seconds;
  ++account.running;
}

void Engine::Settle(Task& task, double seconds) {
  CoreAccount& account = *task.account;
  account.virtual_time += seconds - task.expected_seconds;
  account.core_seconds += seconds;
  if (task.measured) {
    account.task_seconds = account.measured ? 0.75 * account.task_seconds + 0.25 * seconds : seconds;
    account.measured = true;
  }
  --account.running;
}

void Engine::Complete(Task& task, absl::Status status, std::shared_ptr<const Segment> segment, double seconds,
                      Leftovers& leftovers) {
  Settle(task, seconds);
  if (task.open->serial_lanes_) {
    task.open->busy_lanes_.erase(task.entry->key.lane);
    WakeThreads(1);
  }
  --stats_.segments_running;
  if (task.replay_rounds > 0) --stats_.segments_replaying;

  Entry& entry = *task.entry;
  if (status.ok()) {
    ++stats_.segments_generated;
    entry.segment = std::move(segment);
    entry.state.store(Feed::State::kReady, std::memory_order_release);
    OpenStream& open = *task.open;
    open.seconds_ += task.replay_rounds > 0 ? seconds : task.seconds;
    open.bytes_ += static_cast<double>(open.segment_bytes());
    const bool dear = open.seconds_ >= options_.cache_seconds_per_byte * open.bytes_;
    if (entry.in_table && dear) Keep(task.entry, leftovers.garbage);
  } else {
    ++(absl::IsCancelled(status) ? stats_.segments_cancelled : stats_.segments_failed);
    entry.error = std::move(status);
    entry.state.store(Feed::State::kFailed, std::memory_order_release);
    Forget(task.entry);
  }
  for (Feed* feed : entry.waiters) {
    feed->waiting_for_ = nullptr;
    leftovers.notify.push_back(feed->on_ready_);
  }
  entry.waiters.clear();
}

void Engine::CountReplay(Task& task) {
  const std::uint64_t rounds_left = task.job->replay_left();
  task.replay_rounds = std::max(task.replay_rounds, rounds_left);
  const std::uint64_t done = task.replay_rounds - rounds_left;
  if (task.replay_told || done == 0 || task.seconds < kToldReplaySeconds) return;
  task.replay_told = true;
  const double left = task.seconds / static_cast<double>(done) * static_cast<double>(rounds_left);
  Log().info(
      "stream {}: replaying lane {} of an endless pool to segment {}, some {} rounds, of which {} are left; they "
      "will take some {:.0f} s of a core",
      ToHex(task.open->stream().fingerprint()), task.entry->key.lane, task.entry->key.segment, task.replay_rounds,
      rounds_left, left);
}

void Engine::Work() {
  AskForShortSlices();
  Task task;
  Leftovers leftovers;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopping_) return;
    if (!Pick(task)) {
      ++idle_threads_;
      work_.wait(lock);
      --idle_threads_;
      continue;
    }
    if (task.piece) {
      lock.unlock();
      const TaskMeter meter(task);
      task.piece();
      const double seconds = meter.Seconds();
      task.piece = nullptr;  // with what it holds, before the lock is taken
      lock.lock();
      Settle(task, seconds);
      stats_.errand_seconds += seconds;
      task = {};
      continue;
    }
    OpenStream& open = *task.open;
    if (!task.workspace && !open.workspaces_.empty()) {
      task.workspace = std::move(open.workspaces_.back());
      open.workspaces_.pop_back();
    } else if (!task.workspace) {
      ++open.workspaces_made_;
    }
    lock.unlock();

    const TaskMeter meter(task);
    if (!task.workspace) task.workspace = open.stream().NewWorkspace();
    if (!task.segment) task.segment = task.entry->stripe->memory.NewSegment(task.entry->stripe_lane);
    if (!task.job) {
      const Feed::Key& key = task.entry->key;
      task.job = open.stream().Begin(key.lane, key.segment, *task.segment, &task.entry->cancelled);
    }
    const bool was_replay = task.replay_rounds > 0;
    const bool ended = task.job->Run(*task.workspace, kTimeSlice);
    const double seconds = meter.Seconds();
    task.seconds += seconds;
    const bool replay = task.job->replay_left() > 0;
    if (replay) CountReplay(task);

    lock.lock();
    stats_.generation_seconds += seconds;
    if (replay && !was_replay) ++stats_.segments_replaying;
    if (!task.job->keeps_workspace()) open.workspaces_.push_back(std::move(task.workspace));
    if (!ended) {
      Settle(task, seconds);
      unfinished_.push_back(std::exchange(task, {}));
      continue;
    }
    Complete(task, task.job->status(), std::move(task.segment), seconds, leftovers);
    lock.unlock();
    task = {};
    for (const auto& on_ready : leftovers.notify) (*on_ready)();
    leftovers.notify.clear();
    leftovers.garbage.clear();
    lock.lock();
  }
}

}  // namespace iterand
