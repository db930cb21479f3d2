// Tells a second request to end the process from a repetition of the first.
//
// Job managers may send a termination signal twice. `timeout` and batch systems send it to the command, and then to the
// command's whole group. A signal within half a second of the first is therefore part of it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace iterand {

inline constexpr std::chrono::milliseconds kOneSignal{500};

class SecondSignal {
 public:
  enum class Kind { kFirst, kPartOfFirst, kSecond };

  // Must be called for each signal; safe in a signal handler.
  Kind Note() {
    const std::int64_t now = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
    std::int64_t first = 0;
    if (first_.compare_exchange_strong(first, now)) return Kind::kFirst;
    return now - first < kOneSignal.count() ? Kind::kPartOfFirst : Kind::kSecond;
  }

  bool any() const { return first_ != 0; }
  void Reset() { first_ = 0; }

 private:
  std::atomic<std::int64_t> first_ = 0;  // the time of the first one, milliseconds; 0 before it
  static_assert(std::atomic<std::int64_t>::is_always_lock_free, "a signal handler sets it");
};

}  // namespace iterand
