// Runtime: the engine of this process, from its first use to the end of the process, across forks.
//
// Threads. Generation runs on the engine's threads, which never touch Python. A thread of Python's that calls the
// engine holds a Runtime::Use; it waits for rows without one.
//
// Forks. A handler of pthread_atfork waits until no thread holds a Use, and halts the engine (Engine::Halt). So no lock
// is held when the process is copied. In the child the engine and all that belongs to it is left alone and never
// freed: its threads do not exist there. Sessions open their stream again, in an engine with threads of its own.
//
// The end. Stop ends what is in use and joins the threads. Python calls it before it finalizes, without the GIL; a
// process that ends in another way calls it when it destroys global variables. Later calls fail with Cancelled.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/engine/engine.h"

namespace iterand::python {

// Wakes a thread that waits for rows.
class Signal {
 public:
  void Notify();
  // Waits until Notify was called since the last Wait, or for `most`.
  void Wait(std::chrono::milliseconds most);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

// Something that uses an engine, and must release it when the engine ends.
class Session {
 public:
  // Closes readers and releases streams, for good. No other thread uses the session meanwhile.
  virtual void End() = 0;

 protected:
  ~Session() = default;
};

class Runtime {
 public:
  // The runtime of this process. Never destroyed.
  static Runtime& Get();

  // A call of the engine, or of anything else of iterand. Must not be nested. Forks and Stop wait for its end, so it
  // must not wait for rows, nor for Python's GIL.
  class Use {
   public:
    explicit Use(Runtime& runtime = Get());
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Runtime& runtime_;
  };

  // The engine; starts it if necessary. Needs a Use. Errors: Cancelled after Stop.
  absl::StatusOr<std::shared_ptr<Engine>> engine();

  // Cores that streams opened from now on may use together; 0: all. Streams that are open keep the engine they have.
  void SetThreads(int threads);
  int threads() const;

  // How many forks separate this process from the first one that had a runtime. What belongs to an engine must be used
  // only in the process that made it.
  std::uint64_t forks() const { return forks_; }

  void Add(Session* session);
  void Remove(Session* session);

  // Lines about long replays since the last call.
  std::vector<std::string> TakeReports();

  void Stop();
  bool stopped() const { return stopped_; }

 private:
  Runtime();
  static void BeforeFork();
  static void AfterForkInParent();
  static void AfterForkInChild();

  // Waits until there is no Use, and keeps new ones waiting.
  void Close();
  void Reopen();

  struct Gate {
    std::mutex mutex;
    std::condition_variable changed;
    int uses = 0;
    bool closed = false;
  };
  struct Shared {
    std::mutex mutex;
    std::vector<std::shared_ptr<Engine>> engines;  // the last one is for new streams, the others are still in use
    bool replaced = false;                         // SetThreads was called: the last one is for nobody new
    std::unordered_set<Session*> sessions;
    std::vector<std::string> reports;
  };

  // Replaced in a forked child, where the old ones may stay locked.
  std::unique_ptr<Gate> gate_ = std::make_unique<Gate>();
  std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
  std::atomic<int> threads_{0};
  std::atomic<std::uint64_t> forks_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace iterand::python
