// Engine: generates segments for all open streams on a fixed number of cores.
//
// A consumer opens a SequenceReader and takes rows from it in order. The reader puts the segments that it wants into
// the run queue, and the engine's threads take from there whatever the fair scheduler puts first. They work in slices
// of kSliceSeconds: after that, others have their turn if they come first.
//
// A slice ends at the end of a round, where the segment can be put aside. If a round takes longer, its computation is
// paused in the middle: its thread waits, and another thread of the engine uses the core meanwhile. The engine
// therefore has as many threads as it has paused computations and cores. No more of them run at a time than it may use
// cores, whatever a round costs. (randnet/run_control.h: computations ask every few milliseconds whether to pause.)
//
// A segment in progress holds a workspace until it is complete. A stream therefore has at most one segment in progress
// per core, and these finish before others are begun. Segments of an endless pool depend on the one before, so each
// lane has at most one in progress, the lowest first. To reach a segment far ahead the pool is replayed, one segment
// per slice; readers of that lane wait.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/rpc/error_info.h"
#include "iterand/v1/recipe.pb.h"
#include "server/engine/engine_state.h"
#include "server/engine/engine_stats.h"
#include "server/engine/index_reader.h"
#include "server/engine/sequence_reader.h"

namespace iterand {

class Engine {
 public:
  // Core time after which others have their turn, in seconds.
  static constexpr double kSliceSeconds = 0.01;

  explicit Engine(const EngineOptions& options);
  ~Engine();  // all readers, background tasks and pointers to streams must be gone
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Opens a stream, or finds it if one of its fingerprint is open or was recently. Errors are those of Stream::Open,
  // with the reason INVALID_RECIPE.
  absl::StatusOr<std::shared_ptr<SharedStream>> Open(const v1::Recipe& recipe, std::uint64_t seed) {
    absl::StatusOr<std::shared_ptr<SharedStream>> open = state_.streams.Open(recipe, seed);
    if (absl::IsInvalidArgument(open.status())) return WithReason(v1::INVALID_RECIPE, open.status());
    return open;
  }

  // A reader of a stream that Open gave. Errors are those of SequenceReader::Open.
  absl::StatusOr<std::unique_ptr<SequenceReader>> NewReader(std::shared_ptr<SharedStream> stream,
                                                            const SequenceReader::Options& options,
                                                            SequenceReader::Callback on_ready) {
    return SequenceReader::Open(&state_, std::move(stream), options, std::move(on_ready));
  }

  // A reader of any indices of such a stream. Errors are those of IndexReader::Open.
  absl::StatusOr<std::unique_ptr<IndexReader>> NewIndexReader(std::shared_ptr<SharedStream> stream,
                                                              std::span<const std::uint64_t> indices,
                                                              IndexReader::Callback on_ready) {
    return IndexReader::Open(&state_, std::move(stream), indices, std::move(on_ready));
  }

  // Cores that are used at a time.
  int threads() const { return state_.options.threads; }

  // For background tasks.
  EngineState* state() { return &state_; }

  EngineStats stats() const;

  // For a fork of this process. Halt returns a few milliseconds later, when no thread of the engine computes or holds a
  // lock, except the engine's mutex, which Halt takes. Continue, from the same thread, ends that. A forked child has
  // none of the threads: there the engine, its readers and its streams must be left as they are, and never be
  // destroyed. Pointers to streams must not be made or released meanwhile.
  void Halt() ABSL_EXCLUSIVE_LOCK_FUNCTION(state_.mutex);
  void Continue() ABSL_UNLOCK_FUNCTION(state_.mutex);

 private:
  class RunningTask;
  using Clock = std::chrono::steady_clock;
  using Callbacks = std::vector<SegmentCache::Callback>;
  using Garbage = std::vector<std::shared_ptr<SegmentEntry>>;

  // The threads.
  void Work(std::list<std::thread>::iterator self);
  void RequestPauses();
  // Starts a thread. False if the system refuses one.
  bool AddWorker() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void JoinEndedWorkers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  // Gives up a core until the halt ends.
  void WaitWhileHalted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);

  // Does what the run queue puts first, on a core that the caller counts. The mutex is released meanwhile. False if
  // there is nothing to do.
  bool WorkOnce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void RunPiece(PendingPiece work) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void RunSegment(SegmentTask task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  // Ends a segment: it is complete, or `status` is the error that it ended in.
  void Complete(SegmentTask& task, absl::Status status, Callbacks& notify, Garbage& garbage)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);

  // Called on the thread of a computation: gives its core to work that comes first, and waits for its next turn.
  void Pause(RunningTask& running);
  // The same without the meter. `seconds`: of the slice that ends.
  void PauseSlice(RunningTask& running, double seconds);
  void AddRunning(RunningTask& running) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void Resume(PausedTask& paused) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);

  mutable EngineState state_;
  bool stopping_ ABSL_GUARDED_BY(state_.mutex) = false;
  bool halting_ ABSL_GUARDED_BY(state_.mutex) = false;
  int starting_workers_ ABSL_GUARDED_BY(state_.mutex) = 0;  // threads that were made and have not begun to work
  absl::CondVar halted_;                                    // no core is in use and no thread starts
  absl::CondVar continued_;                                 // halting_ was set to false
  std::vector<RunningTask*> running_ ABSL_GUARDED_BY(state_.mutex);
  absl::CondVar clock_changed_;  // running_ is no longer empty, or stopping_
  bool clock_sleeps_ ABSL_GUARDED_BY(state_.mutex) = false;
  std::list<std::thread> workers_ ABSL_GUARDED_BY(state_.mutex);
  std::list<std::thread> ended_workers_ ABSL_GUARDED_BY(state_.mutex);  // to be joined
  std::thread clock_;
};

}  // namespace iterand
