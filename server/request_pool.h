// Threads that parse requests and open streams, so that gRPC's own threads never do.
//
// There are two. The first takes only small requests, so that large ones, which take tens of milliseconds, never occupy
// both.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace iterand {

// Requests up to this size are small, in bytes.
inline constexpr std::size_t kSmallRequestBytes = 64 << 10;

// Thread-safe.
class RequestPool {
 public:
  // How many small requests may wait, and how many large ones. No more large ones than this
  // are read at a time (server/request_gate.h).
  static constexpr std::size_t kMaxWaiting = 256;

  RequestPool();
  ~RequestPool();  // drops what waits, and returns when what runs has ended
  RequestPool(const RequestPool&) = delete;
  RequestPool& operator=(const RequestPool&) = delete;

  // Calls `work` once, from a thread of the pool, for a request of this many bytes. Returns a ticket, or nothing if
  // kMaxWaiting of its kind wait already, in which case `work` is dropped.
  std::optional<std::uint64_t> Post(std::size_t bytes, std::function<void()> work);

  // Drops work that has not begun.
  void Withdraw(std::uint64_t ticket);

 private:
  using Queue = std::map<std::uint64_t, std::function<void()>>;  // by ticket

  void Run(bool small_only);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t next_ticket_ = 0;
  Queue small_;
  Queue large_;
  bool stopping_ = false;
  std::array<std::thread, 2> threads_;
};

}  // namespace iterand
