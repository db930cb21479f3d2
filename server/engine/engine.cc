#include "server/engine/engine.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>
#include <variant>

#include "absl/time/time.h"
#include "common/thread_clock.h"
#include "server/engine/generation_error.h"

namespace iterand {
namespace {

// How often running slices are checked for their age.
constexpr absl::Duration kTick = absl::Milliseconds(5);

// How long threads beyond one per core are kept without work.
constexpr absl::Duration kSpareThreadTime = absl::Seconds(2);

// A slice that was not to be measured, and took longer than this by the wall clock, is measured after all.
constexpr std::chrono::milliseconds kUnmeasuredTime(1);

EngineOptions Resolved(EngineOptions options) {
  if (options.threads <= 0) options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return options;
}

// What ThreadSeconds returned last on this thread. Slices are charged core time, not time by the clock: load from other
// processes must not make a stream look expensive.
thread_local double last_thread_seconds = 0;

// Generation never sleeps while there is work. Threads that send a batch, or a trainer on the same machine, would wait
// several milliseconds for the end of its time slice. From Linux 6.12 on a thread can ask for shorter slices; its share
// of the core stays the same. Elsewhere nothing changes.
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

// Core time of a slice, on the thread that runs it.
class SliceMeter {
 public:
  void Start(const FairScheduler::Slice& slice) {
    measured_ = slice.measured;
    expected_seconds_ = slice.expected_seconds;
    start_ = std::chrono::steady_clock::now();
    if (measured_) last_thread_seconds = ThreadSeconds();
    start_seconds_ = last_thread_seconds;
  }

  double Seconds() const {
    if (!measured_ && std::chrono::steady_clock::now() - start_ < kUnmeasuredTime) return expected_seconds_;
    last_thread_seconds = ThreadSeconds();
    return last_thread_seconds - start_seconds_;
  }

 private:
  bool measured_ = false;
  double expected_seconds_ = 0;
  double start_seconds_ = 0;  // if it is not measured, of a slice or a few before
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

// A segment task while its computation is on a thread, running or paused.
class Engine::RunningTask final : public RunControl::Pauser {
 public:
  RunningTask(Engine* engine, SegmentTask* task, FairScheduler::Slice slice)
      : engine_(engine), task_(task), slice_(std::move(slice)), start_(Clock::now()) {
    paused.task = task;
  }

  void Pause() override { engine_->Pause(*this); }

  SegmentTask& task() { return *task_; }
  Clock::time_point start() const { return start_; }

  // These are called on the task's thread, without the engine's mutex, since they may call the system.
  void StartMeter() { meter_.Start(slice_); }
  double MeasuredSeconds() const { return meter_.Seconds(); }

  // These are called on the task's thread, with the engine's mutex held.
  void EndSlice(FairScheduler& scheduler, double seconds) {
    scheduler.EndSlice(slice_, seconds);
    task_->AddSeconds(seconds);
  }
  void BeginSlice(FairScheduler& scheduler) {
    slice_ = scheduler.BeginSlice(task_->account());
    start_ = Clock::now();
  }

  PausedTask paused;

 private:
  Engine* const engine_;
  SegmentTask* const task_;
  FairScheduler::Slice slice_;
  SliceMeter meter_;
  Clock::time_point start_;
};

Engine::Engine(const EngineOptions& options) : state_(Resolved(options)) {
  absl::MutexLock lock(&state_.mutex);
  for (int i = 0; i < state_.options.threads; ++i) {
    workers_.emplace_front();
    workers_.front() = std::thread([this, self = workers_.begin()] { Work(self); });
  }
  starting_workers_ = state_.options.threads + 1;  // with the clock
  clock_ = std::thread([this] { RequestPauses(); });
}

Engine::~Engine() {
  std::list<std::thread> threads;
  {
    absl::MutexLock lock(&state_.mutex);
    stopping_ = true;
    while (PausedTask* const paused = state_.queue.TakePaused()) Resume(*paused);
    state_.work_added.SignalAll();
    clock_changed_.Signal();
    threads.swap(workers_);
    threads.splice(threads.end(), ended_workers_);
  }
  for (std::thread& thread : threads) thread.join();
  clock_.join();
  absl::MutexLock lock(&state_.mutex);
  state_.queue.Clear();  // its tasks use streams
}

EngineStats Engine::stats() const {
  const StreamRegistry::Stats streams = state_.streams.stats();
  absl::MutexLock lock(&state_.mutex);
  EngineStats stats = state_.stats;
  stats.cache_hits = state_.cache.counters().hits;
  stats.cache_misses = state_.cache.counters().misses;
  stats.segments_queued = state_.cache.counters().queued;
  stats.cache_bytes = state_.cache.bytes();
  stats.used_stream_bytes = streams.used_bytes;
  stats.idle_stream_bytes = streams.idle_bytes;
  stats.streams_idle = streams.idle_streams;
  return stats;
}

// ---- Threads -------------------------------------------------------------------------------------------------------

bool Engine::AddWorker() {
  JoinEndedWorkers();
  workers_.emplace_front();
  try {
    workers_.front() = std::thread([this, self = workers_.begin()] { Work(self); });
  } catch (const std::system_error&) {  // no more threads
    workers_.pop_front();
    return false;
  }
  ++starting_workers_;
  return true;
}

void Engine::JoinEndedWorkers() {
  for (std::thread& thread : ended_workers_) thread.join();
  ended_workers_.clear();
}

void Engine::Work(std::list<std::thread>::iterator self) {
  AskForShortSlices();
  absl::MutexLock lock(&state_.mutex);
  if (--starting_workers_ == 0) halted_.Signal();
  bool timed_out = false;
  while (!stopping_) {
    if (!halting_ && state_.cores_in_use < state_.options.threads && WorkOnce()) {
      timed_out = false;
      continue;
    }
    // Each core needs a thread that runs or is idle. The others are spare.
    if (timed_out && state_.idle_workers + state_.cores_in_use >= state_.options.threads) {
      ended_workers_.splice(ended_workers_.end(), workers_, self);
      return;
    }
    ++state_.idle_workers;
    timed_out = state_.work_added.WaitWithTimeout(&state_.mutex, kSpareThreadTime);
    --state_.idle_workers;
  }
}

void Engine::RequestPauses() {
  absl::MutexLock lock(&state_.mutex);
  if (--starting_workers_ == 0) halted_.Signal();
  while (!stopping_) {
    if (running_.empty()) {
      clock_sleeps_ = true;
      clock_changed_.Wait(&state_.mutex);
      clock_sleeps_ = false;
      continue;
    }
    clock_changed_.WaitWithTimeout(&state_.mutex, kTick);
    const Clock::time_point now = Clock::now();
    const auto is_over = [now](const RunningTask* running) {
      return std::chrono::duration<double>(now - running->start()).count() >= kSliceSeconds;
    };
    if (std::none_of(running_.begin(), running_.end(), is_over) || !state_.queue.HasWork(state_.scheduler)) continue;
    for (RunningTask* const running : running_) {
      if (is_over(running)) running->task().entry()->control.RequestPause();
    }
  }
}

// ---- Work ----------------------------------------------------------------------------------------------------------

bool Engine::WorkOnce() {
  RunQueue::Work work = state_.queue.Take(state_.scheduler);
  if (std::holds_alternative<std::monostate>(work)) return false;
  if (PausedTask** const paused = std::get_if<PausedTask*>(&work)) {
    Resume(**paused);  // on its own thread
    return true;
  }
  ++state_.cores_in_use;
  if (PendingPiece* const piece = std::get_if<PendingPiece>(&work)) {
    RunPiece(std::move(*piece));
  } else {
    RunSegment(std::move(std::get<SegmentTask>(work)));
  }
  if (--state_.cores_in_use == 0 && halting_) halted_.Signal();
  return true;
}

void Engine::RunPiece(PendingPiece work) {
  const FairScheduler::Slice slice = state_.scheduler.BeginSlice(work.account);
  state_.mutex.Unlock();
  SliceMeter meter;
  meter.Start(slice);
  work.piece();
  const double seconds = meter.Seconds();
  work.piece = nullptr;  // with what it holds, before the mutex is locked
  state_.mutex.Lock();
  state_.scheduler.EndSlice(slice, seconds);
  state_.stats.background_seconds += seconds;
}

void Engine::RunSegment(SegmentTask task) {
  SharedStream& stream = *task.stream();
  SegmentEntry& entry = *task.entry();
  if (entry.GetState() == SegmentEntry::State::kQueued) {
    state_.cache.SetRunning(entry);
    ++state_.stats.segments_running;
    if (stream.serial_lanes()) stream.SetBusy(entry.key.lane, true);
  }
  if (!task.has_workspace()) task.GiveWorkspace(stream.TakeWorkspace());
  const bool replayed_before = task.replays();
  RunningTask running(this, &task, state_.scheduler.BeginSlice(task.account()));
  AddRunning(running);
  state_.mutex.Unlock();

  entry.control.set_pauser(&running);
  running.StartMeter();
  absl::Status status = task.Run(kSliceSeconds);
  const double seconds = running.MeasuredSeconds();

  state_.mutex.Lock();
  std::erase(running_, &running);
  running.EndSlice(state_.scheduler, seconds);
  state_.stats.generation_seconds += task.slice_seconds();
  const bool log_replay = task.CountReplay();
  if (task.replays() && !replayed_before) ++state_.stats.segments_replaying;
  if (task.may_return_workspace()) stream.ReturnWorkspace(task.TakeWorkspace());
  if (log_replay && state_.options.report) state_.options.report(task.ReplayReport());
  if (!task.done()) {
    state_.queue.Add(std::move(task));
    return;
  }
  Callbacks notify;
  Garbage garbage;
  Complete(task, std::move(status), notify, garbage);
  state_.mutex.Unlock();
  task = {};
  for (const SegmentCache::Callback& on_ready : notify) (*on_ready)();
  notify.clear();
  garbage.clear();
  state_.mutex.Lock();
}

void Engine::Complete(SegmentTask& task, absl::Status status, Callbacks& notify, Garbage& garbage) {
  SharedStream& stream = *task.stream();
  const std::shared_ptr<SegmentEntry>& entry = task.entry();
  if (stream.serial_lanes()) {
    stream.SetBusy(entry->key.lane, false);
    state_.WakeWorkers(1);
  }
  for (const SegmentWaiter* waiter : entry->waiters) state_.scheduler.EndWait(*waiter->account);
  --state_.stats.segments_running;
  if (task.replays()) --state_.stats.segments_replaying;
  if (status.ok()) {
    ++state_.stats.segments_generated;
    const double segment_seconds = stream.CountSegment(task.replays() ? task.slice_seconds() : task.seconds());
    state_.scheduler.SetSegmentSeconds(*task.account(), segment_seconds);
    const bool keep = entry->key.owner == 0 && stream.CostsAtLeast(state_.options.cache_seconds_per_byte);
    state_.cache.SetReady(entry, task.TakeSegment(), keep, garbage, notify);
  } else {
    ++(absl::IsCancelled(status) ? state_.stats.segments_cancelled : state_.stats.segments_failed);
    state_.cache.SetFailed(entry, WithGenerationReason(std::move(status)), notify);
  }
}

// ---- Pauses --------------------------------------------------------------------------------------------------------

void Engine::Pause(RunningTask& running) {
  PauseSlice(running, running.MeasuredSeconds());
  running.StartMeter();
}

void Engine::PauseSlice(RunningTask& running, double seconds) {
  absl::MutexLock lock(&state_.mutex);
  SegmentTask& task = running.task();
  running.EndSlice(state_.scheduler, seconds);
  state_.stats.generation_seconds += task.slice_seconds();
  // The core goes to an idle thread, which there must be.
  if (!stopping_ && !halting_ && !task.cancelled() && state_.queue.HasBefore(state_.scheduler, *task.account()) &&
      (state_.idle_workers > 0 || AddWorker())) {
    std::erase(running_, &running);
    --state_.cores_in_use;
    state_.queue.Add(&running.paused);
    state_.WakeWorkers(1);
    while (!running.paused.resumed) running.paused.resume.Wait(&state_.mutex);
    running.paused.resumed = false;
    AddRunning(running);
  }
  while (halting_) WaitWhileHalted();
  running.BeginSlice(state_.scheduler);
}

// ---- Halts ---------------------------------------------------------------------------------------------------------

void Engine::Halt() {
  state_.mutex.Lock();
  halting_ = true;
  for (RunningTask* const running : running_) running->task().entry()->control.RequestPause();
  while (state_.cores_in_use > 0 || starting_workers_ > 0) halted_.Wait(&state_.mutex);
  JoinEndedWorkers();
}

void Engine::Continue() {
  halting_ = false;
  continued_.SignalAll();
  state_.work_added.SignalAll();
  state_.mutex.Unlock();
}

void Engine::WaitWhileHalted() {
  if (--state_.cores_in_use == 0) halted_.Signal();
  continued_.Wait(&state_.mutex);
  ++state_.cores_in_use;
}

void Engine::AddRunning(RunningTask& running) {
  running_.push_back(&running);
  if (clock_sleeps_) clock_changed_.Signal();
}

void Engine::Resume(PausedTask& paused) {
  paused.resumed = true;
  ++state_.cores_in_use;
  paused.resume.Signal();
}

}  // namespace iterand
