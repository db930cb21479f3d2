// Threads that answer requests of the page.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace iterand {

// Thread-safe.
class WorkerPool {
 public:
  // At most `max_waiting` pieces of work wait for a thread. `niceness` is added to that of the
  // calling thread (man 2 setpriority): with 0 the threads have the priority of those that generate.
  WorkerPool(int threads, std::size_t max_waiting, int niceness);
  ~WorkerPool();  // stops
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Calls `work` once, on a thread of the pool. False if too many wait, or the pool was stopped; `work` is then
  // dropped.
  bool Post(std::function<void()> work);

  // Drops what waits, and returns when what runs has ended.
  void Stop();

 private:
  void Run();

  const std::size_t max_waiting_;
  const int niceness_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace iterand
