// Gives memory that the server has freed back to the system.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>

namespace iterand {

// In every arena, glibc keeps memory that was freed below a block in use. After a burst of streams that is most of what
// they had. A thread checks once per second, and calls malloc_trim when usage has dropped by much. A server with a
// steady load is never trimmed, and so pays no page faults for it.
class MemoryTrimmer {
 public:
  // `in_use` estimates, in bytes, the memory that is in use now. Called from the trimmer's thread.
  explicit MemoryTrimmer(std::function<std::size_t()> in_use);
  ~MemoryTrimmer();
  MemoryTrimmer(const MemoryTrimmer&) = delete;
  MemoryTrimmer& operator=(const MemoryTrimmer&) = delete;

 private:
  void Run();

  const std::function<std::size_t()> in_use_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace iterand
