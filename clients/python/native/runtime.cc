#include "clients/python/native/runtime.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <thread>
#include <utility>

namespace iterand::python {
namespace {

// Bounds on what the engine holds, in bytes. One stream reads ahead up to kPrefetchBytes, or two segments of each lane
// if they are larger. kMaxStreamBytes in iterate/limits.h bounds the segments of recipes.
constexpr std::size_t kPrefetchBytes = std::size_t{16} << 20;
constexpr std::size_t kQueueBytes = std::size_t{2} << 30;
// Segments kept for random access.
constexpr std::size_t kCacheBytes = std::size_t{64} << 20;

constexpr std::size_t kMostReports = 100;

}  // namespace

void Signal::Notify() {
  const std::lock_guard lock(mutex_);
  set_ = true;
  changed_.notify_all();
}

void Signal::Wait(std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, most, [this] { return set_; });
  set_ = false;
}

Runtime& Runtime::Get() {
  static Runtime& runtime = *new Runtime();
  return runtime;
}

Runtime::Runtime() {
  pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild);
  // For a process that ends without Python's knowledge. It was registered after the global variables of the libraries
  // that the engine's threads use were made, and is called before they are destroyed.
  std::atexit([] { Get().Stop(); });
}

// ---- Uses ----------------------------------------------------------------------------------------------------------

Runtime::Use::Use(Runtime& runtime) : runtime_(runtime) {
  Gate& gate = *runtime_.gate_;
  std::unique_lock lock(gate.mutex);
  gate.changed.wait(lock, [&gate] { return !gate.closed; });
  ++gate.uses;
}

Runtime::Use::~Use() {
  Gate& gate = *runtime_.gate_;
  const std::lock_guard lock(gate.mutex);
  if (--gate.uses == 0 && gate.closed) gate.changed.notify_all();
}

void Runtime::Close() {
  Gate& gate = *gate_;
  std::unique_lock lock(gate.mutex);
  gate.changed.wait(lock, [&gate] { return !gate.closed; });
  gate.closed = true;
  gate.changed.wait(lock, [&gate] { return gate.uses == 0; });
}

void Runtime::Reopen() {
  const std::lock_guard lock(gate_->mutex);
  gate_->closed = false;
  gate_->changed.notify_all();
}

// ---- The engine ----------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<Engine>> Runtime::engine() {
  if (stopped_) return absl::CancelledError("this process is ending");
  std::vector<std::shared_ptr<Engine>> unused;  // joined after the lock is released
  const std::lock_guard lock(shared_->mutex);
  std::vector<std::shared_ptr<Engine>>& engines = shared_->engines;
  if (engines.empty() || shared_->replaced) {
    engines.push_back(std::make_shared<Engine>(
        EngineOptions{.threads = threads_,
                      .cache_bytes = kCacheBytes,
                      .readahead_bytes = kPrefetchBytes,
                      .max_stream_bytes = kQueueBytes,
                      .map_buffers = true,
                      .cache_seconds_per_byte = 0,  // random access often returns to the same segments
                      .report = [this](const std::string& line) {
                        const std::lock_guard report_lock(shared_->mutex);
                        if (shared_->reports.size() < kMostReports) shared_->reports.push_back(line);
                      }}));
    shared_->replaced = false;
  }
  std::shared_ptr<Engine> engine = engines.back();
  const auto in_use = std::stable_partition(engines.begin(), engines.end() - 1,
                                            [](const std::shared_ptr<Engine>& old) { return old.use_count() > 1; });
  std::move(in_use, engines.end() - 1, std::back_inserter(unused));
  engines.erase(in_use, engines.end() - 1);
  return engine;
}

void Runtime::SetThreads(int threads) {
  const std::lock_guard lock(shared_->mutex);
  if (threads == threads_) return;
  threads_ = threads;
  shared_->replaced = true;
}

int Runtime::threads() const {
  const int threads = threads_;
  return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void Runtime::Add(Session* session) {
  const std::lock_guard lock(shared_->mutex);
  shared_->sessions.insert(session);
}

void Runtime::Remove(Session* session) {
  const std::lock_guard lock(shared_->mutex);
  shared_->sessions.erase(session);
}

std::vector<std::string> Runtime::TakeReports() {
  const std::lock_guard lock(shared_->mutex);
  return std::exchange(shared_->reports, {});
}

void Runtime::Stop() {
  Close();
  if (!stopped_.exchange(true)) {
    for (Session* const session : shared_->sessions) session->End();
    shared_->engines.clear();
  }
  Reopen();
}

// ---- Forks ---------------------------------------------------------------------------------------------------------

// No thread holds shared_->mutex after Close and Halt: the engine's threads take it only while they compute.
void Runtime::BeforeFork() {
  Runtime& runtime = Get();
  runtime.Close();
  for (const std::shared_ptr<Engine>& engine : runtime.shared_->engines) engine->Halt();
}

void Runtime::AfterForkInParent() {
  Runtime& runtime = Get();
  for (const std::shared_ptr<Engine>& engine : runtime.shared_->engines) engine->Continue();
  runtime.Reopen();
}

void Runtime::AfterForkInChild() {
  Runtime& runtime = Get();
  ++runtime.forks_;
  // Left as they are, in the state in which the parent's threads left them.
  static_cast<void>(runtime.gate_.release());
  Shared* const old = runtime.shared_.release();
  runtime.gate_ = std::make_unique<Gate>();
  runtime.shared_ = std::make_unique<Shared>();
  runtime.shared_->sessions = old->sessions;  // Python's objects, which the child has too
}

}  // namespace iterand::python
