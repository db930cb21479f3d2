// What the calls of one server have in common: places for a bounded number of them, the drain, and their counts.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>

#include "absl/status/status.h"

namespace iterand {

// Counts of all calls.
struct CallCounters {
  std::atomic<std::uint64_t> sequences{0};
  std::atomic<std::uint64_t> tokens{0};
  std::atomic<std::uint64_t> batches{0};
  std::atomic<std::uint64_t> batch_bytes{0};
  std::atomic<std::uint64_t> wait_nanoseconds{0};
  std::atomic<std::uint64_t> streams_started{0};
  std::atomic<std::uint64_t> programs_executed{0};
  std::atomic<std::uint64_t> steps_executed{0};
};

// A call of Stream, Read or Execute that is under way.
class ActiveCall {
 public:
  virtual ~ActiveCall() = default;
  // The server is stopping: a stream or an execution ends after the message in flight; a read goes on.
  virtual void Drain() = 0;
};

// The calls under way. Thread-safe.
class CallRegistry {
 public:
  explicit CallRegistry(int max_calls) : max_calls_(max_calls) {}
  CallRegistry(const CallRegistry&) = delete;
  CallRegistry& operator=(const CallRegistry&) = delete;

  // Takes a place for a call. Errors: ResourceExhausted if there is none, Unavailable if the server is stopping.
  absl::Status TakePlace();

  // Gives it back, if the call never began.
  void GivePlaceBack();

  // Keeps a call that has a place, until Remove, which gives the place back.
  void Add(const std::shared_ptr<ActiveCall>& call);
  void Remove(const std::shared_ptr<ActiveCall>& call);

  // Drains the calls under way and those that still come.
  void Drain();

  int open() const;  // calls
  CallCounters& counters() { return counters_; }
  const CallCounters& counters() const { return counters_; }

 private:
  const int max_calls_;
  CallCounters counters_;
  mutable std::mutex mutex_;
  std::set<std::shared_ptr<ActiveCall>> calls_;
  int places_taken_ = 0;
  bool draining_ = false;
};

}  // namespace iterand
