// How the owner of a computation stops it, or makes it wait, while another thread computes.
//
//   RunControl control(&pauser);
//   program.set_stop(&control);                      // the computing thread calls control.ShouldStop() now and then
//   control.RequestPause();                          // any thread: the next call of ShouldStop waits in pauser.Pause()
//   control.Stop();                                  // any thread: from now on ShouldStop returns true
//
// A computation must call ShouldStop at least every few milliseconds of core time, so that a scheduler can give its
// core to others. While nothing is requested, a call costs one relaxed load.
#pragma once

#include <atomic>
#include <cstdint>

namespace iterand {

class RunControl {
 public:
  // Waits on behalf of a computation, on its thread.
  class Pauser {
   public:
    virtual void Pause() = 0;

   protected:
    ~Pauser() = default;
  };

  explicit RunControl(Pauser* pauser = nullptr) : pauser_(pauser) {}
  RunControl(const RunControl&) = delete;
  RunControl& operator=(const RunControl&) = delete;

  // For the computing thread: waits if a pause was requested, and returns whether to end soon. The results of a
  // computation that was stopped must not be used.
  bool ShouldStop() const { return requests_.load(std::memory_order_relaxed) != 0 && AnswerRequests(); }

  // Whether Stop was called. Does not wait.
  bool stopped() const { return (requests_.load(std::memory_order_relaxed) & kStop) != 0; }

  // Ends the computation, for good. Thread-safe.
  void Stop() { requests_.fetch_or(kStop, std::memory_order_relaxed); }

  // Calls the pauser once, from the computing thread, at its next ShouldStop. Thread-safe.
  void RequestPause() { requests_.fetch_or(kPause, std::memory_order_relaxed); }

  // For the computing thread, between two calls of ShouldStop: the pauser that waits for it from now on. Null: it never
  // waits.
  void set_pauser(Pauser* pauser) { pauser_ = pauser; }

 private:
  static constexpr std::uint8_t kStop = 1;
  static constexpr std::uint8_t kPause = 2;

  bool AnswerRequests() const {
    if ((requests_.load(std::memory_order_relaxed) & kPause) != 0) {
      requests_.fetch_and(static_cast<std::uint8_t>(~kPause), std::memory_order_relaxed);
      if (pauser_ != nullptr) pauser_->Pause();
    }
    return stopped();
  }

  mutable std::atomic<std::uint8_t> requests_{0};
  Pauser* pauser_;
};

}  // namespace iterand
