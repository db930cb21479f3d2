// The method Execute: runs programs that a client gives on the byte machine of randnet/tape_machine.h, within limits.
//
// Programs are run by threads of the executor's own, one result at a time and call after call in turn, so that a client with
// many programs delays others by one program at most and streams not at all beyond the cores that it takes. A call holds one result;
// the next program is run when the client has taken it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.pb.h"
#include "randnet/tape_machine.h"

namespace iterand {

inline constexpr int kMaxExecutePrograms = 4096;
inline constexpr std::uint64_t kMaxExecuteSteps = std::uint64_t{1} << 26;       // of a program; some 0.3 s
inline constexpr std::uint64_t kMaxExecuteTotalSteps = std::uint64_t{1} << 33;  // of a request
inline constexpr std::uint32_t kMaxExecuteOutput = 65536;                       // bytes of a program
inline constexpr std::size_t kMaxExecuteInput = 65536;                          // bytes of an input tape
inline constexpr std::size_t kRandomInput = 4096;                               // bytes of a random one

// A request that has been checked.
class ExecutePlan {
 public:
  // Errors: InvalidArgument naming the field, such as "programs[3]: program: position 5: ']' closes no loop".
  static absl::StatusOr<ExecutePlan> Make(const v1::ExecuteRequest& request);

  int size() const { return static_cast<int>(programs_.size()); }

  // Runs a program. Not for two threads at once.
  void Run(int program, v1::ExecuteResult& result);

 private:
  struct Entry {
    TapeProgram program;
    std::vector<Symbol> input;
  };
  std::vector<Entry> programs_;
  TapeLimits limits_;
  std::vector<Symbol> output_;
};

// Threads that run tasks in the order of posting.
class Executor {
 public:
  explicit Executor(int threads);
  ~Executor();  // runs what is posted, then stops
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void Post(std::function<void()> task);

 private:
  void Work();

  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace iterand
