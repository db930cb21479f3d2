// What the calls of one server have in common: a bounded number of slots, the drain, and their counts.
#pragma once

#include <grpcpp/support/status.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/live_rows.h"
#include "server/server_stats.h"

namespace iterand {

// Calls of Describe that may be open at a time. They have slots of their own, since clients describe a stream before
// they open it.
inline constexpr int kMaxDescribeCalls = 64;

// Requests of Execute in progress, in bytes on the wire.
inline constexpr std::int64_t kMaxExecuteBytes = std::int64_t{256} << 20;

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

// A share of a bounded resource of all calls. It is given back when this is destroyed. Movable. The resource must
// outlive it.
class Reservation {
 public:
  Reservation() = default;  // nothing
  Reservation(std::atomic<std::int64_t>* taken, std::int64_t amount) : taken_(taken), amount_(amount) {}
  Reservation(Reservation&& other) noexcept : taken_(std::exchange(other.taken_, nullptr)), amount_(other.amount_) {}
  Reservation& operator=(Reservation&& other) noexcept {
    std::swap(taken_, other.taken_);
    std::swap(amount_, other.amount_);
    return *this;
  }
  ~Reservation() {
    if (taken_ != nullptr) *taken_ -= amount_;
  }

 private:
  std::atomic<std::int64_t>* taken_ = nullptr;  // of all reservations
  std::int64_t amount_ = 0;
};

// One of the calls that a server allows at a time.
using CallSlot = Reservation;

// A call in progress, as the registry knows it.
class ActiveCall {
 public:
  virtual ~ActiveCall() = default;
  // The server is stopping. A stream or an execution ends after the message in flight, and a read continues. A request
  // that has not begun to be served ends at once.
  virtual void Drain() = 0;
};

// The calls in progress. Thread-safe.
class CallRegistry {
 public:
  explicit CallRegistry(int max_calls) : max_calls_(max_calls) {}
  CallRegistry(const CallRegistry&) = delete;
  CallRegistry& operator=(const CallRegistry&) = delete;

  // A slot for a call of this method, from before its request is read until it ends. Errors: Unavailable if all are
  // taken, or the server is stopping: the client may try another server. The registry must outlive the slot.
  absl::StatusOr<CallSlot> TakeSlot(Method method);

  // Room for the programs of a call of Execute, `bytes` on the wire. Errors: Unavailable if other calls hold
  // kMaxExecuteBytes.
  absl::StatusOr<Reservation> TakeExecuteBytes(std::size_t bytes);

  // Keeps a call until Remove.
  void Add(const std::shared_ptr<ActiveCall>& call);
  void Remove(const std::shared_ptr<ActiveCall>& call);

  // Counts a call of Stream, Read or Execute whose request was accepted, from CountStart to CountStop.
  void CountStart();
  void CountStop() { --serving_; }

  // Counts the end of a call, and logs it if it failed, at a few lines per second. Failures of the server are logged as
  // errors, others as information. `of` says which call it was.
  void CountEnd(Method method, const grpc::Status& status, std::string_view of);

  // Drains the calls in progress and those that begin later.
  void Drain();

  int open() const { return serving_; }  // calls between CountStart and CountStop
  std::int64_t slots_taken() const { return served_slots_ + describe_slots_; }
  CallCounters& counters() { return counters_; }
  const CallCounters& counters() const { return counters_; }
  LiveRows& live() { return live_; }

 private:
  // Whether another line of information may be logged. `left_out` is the number of lines left out since the last one.
  bool MayLog(std::uint64_t& left_out);

  const int max_calls_;
  CallCounters counters_;
  LiveRows live_;
  std::atomic<std::int64_t> served_slots_{0};    // of Stream, Read and Execute
  std::atomic<std::int64_t> describe_slots_{0};  // of Describe
  std::atomic<std::int64_t> execute_bytes_{0};
  std::atomic<int> serving_{0};
  std::mutex log_mutex_;
  std::chrono::steady_clock::time_point last_logged_;  // guarded by log_mutex_, as the next two
  double log_lines_ = 0;
  std::uint64_t left_out_ = 0;
  std::mutex mutex_;
  std::set<std::shared_ptr<ActiveCall>> calls_;
  bool draining_ = false;
};

}  // namespace iterand
