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
  // Bytes of the small requests that may wait, and of the large ones. The bound is not a number of requests: most have
  // a few hundred bytes, and as many as there are calls may come at once. The gate (server/request_gate.h) bounds the
  // large ones further.
  static constexpr std::size_t kMaxSmallBytes = 16 << 20;
  static constexpr std::size_t kMaxLargeBytes = 256 << 20;

  RequestPool();
  ~RequestPool();  // drops what waits, and returns when what runs has ended
  RequestPool(const RequestPool&) = delete;
  RequestPool& operator=(const RequestPool&) = delete;

  // Calls `work` once, from a thread of the pool, for a request of this many bytes. Returns a ticket. Returns nothing
  // and drops `work` if too many bytes of its kind wait already.
  std::optional<std::uint64_t> Post(std::size_t bytes, std::function<void()> work);

  // Drops work that has not begun.
  void Withdraw(std::uint64_t ticket);

 private:
  struct Request {
    std::size_t bytes;
    std::function<void()> work;
  };
  struct Queue {
    std::map<std::uint64_t, Request> requests;  // by ticket
    std::size_t bytes = 0;                      // of all of them
  };
  using Node = std::map<std::uint64_t, Request>::node_type;

  // Takes a request out of the queue; empty if the queue does not have it.
  static Node Take(Queue& queue, std::uint64_t ticket);

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
