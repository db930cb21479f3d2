#include "server/request_pool.h"

#include <utility>

namespace iterand {

RequestPool::RequestPool() {
  threads_[0] = std::thread([this] { Run(/*small_only=*/true); });
  threads_[1] = std::thread([this] { Run(/*small_only=*/false); });
}

RequestPool::~RequestPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::optional<std::uint64_t> RequestPool::Post(std::size_t bytes, std::function<void()> work) {
  const bool small = bytes <= kSmallRequestBytes;
  std::uint64_t ticket;
  {
    std::lock_guard lock(mutex_);
    Queue& queue = small ? small_ : large_;
    if (stopping_ || queue.bytes + bytes > (small ? kMaxSmallBytes : kMaxLargeBytes)) return std::nullopt;
    ticket = next_ticket_++;
    queue.requests.emplace(ticket, Request{bytes, std::move(work)});
    queue.bytes += bytes;
  }
  if (small) {
    changed_.notify_one();  // any thread serves
  } else {
    changed_.notify_all();
  }
  return ticket;
}

void RequestPool::Withdraw(std::uint64_t ticket) {
  Node dropped;  // released without the lock
  std::lock_guard lock(mutex_);
  dropped = Take(small_, ticket);
  if (dropped.empty()) dropped = Take(large_, ticket);
}

RequestPool::Node RequestPool::Take(Queue& queue, std::uint64_t ticket) {
  Node request = queue.requests.extract(ticket);
  if (!request.empty()) queue.bytes -= request.mapped().bytes;
  return request;
}

void RequestPool::Run(bool small_only) {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock,
                  [&] { return stopping_ || !small_.requests.empty() || (!small_only && !large_.requests.empty()); });
    if (stopping_) return;
    Queue& queue = small_only || large_.requests.empty() ? small_ : large_;
    Node next = Take(queue, queue.requests.begin()->first);
    lock.unlock();
    next.mapped().work();
    next = {};  // what the work holds is released without the lock
    lock.lock();
  }
}

}  // namespace iterand
