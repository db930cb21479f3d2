// What the calls of one server have in common: places for a bounded number of them, the drain, and their counts.
#pragma once

#include <grpcpp/support/status.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>

#include "absl/status/status.h"
#include "server/engine_stats.h"

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
  std::array<std::array<std::atomic<std::uint64_t>, kStatusCodes>, kMethods.size()> ended{};  // by method and code
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

  // Takes a place for a call. Errors: Unavailable if there is none, or the server is stopping: another server may do.
  absl::Status TakePlace();

  // Gives it back, if the call never began.
  void GivePlaceBack();

  // Keeps a call that has a place, until Remove, which gives the place back.
  void Add(const std::shared_ptr<ActiveCall>& call);
  void Remove(const std::shared_ptr<ActiveCall>& call);

  // Counts the end of a call, and logs it if it failed: what the server is to blame for as an error, the rest as
  // information. `of` says which call it was.
  void CountEnd(Method method, const grpc::Status& status, std::string_view of);

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
