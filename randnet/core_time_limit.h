// Ends a computation of one thread that takes too much core time. Unlike a deadline it does not depend on what else the
// machine does.
//
//   RunControl control;
//   const CoreTimeLimit limit(&control, 1.0);
//   Compute(control);             // on this thread
//   if (control.stopped()) ...    // a second was not enough
#pragma once

#include "common/thread_clock.h"
#include "randnet/run_control.h"

namespace iterand {

// Stops `control` once the calling thread has used `seconds` of core time, which is measured at each ShouldStop. Takes
// the place of the control's pauser, so it must outlive the computation.
class CoreTimeLimit final : public RunControl::Pauser {
 public:
  CoreTimeLimit(RunControl* control, double seconds) : control_(control), end_(ThreadSeconds() + seconds) {
    control_->set_pauser(this);
    control_->RequestPause();
  }
  CoreTimeLimit(const CoreTimeLimit&) = delete;
  CoreTimeLimit& operator=(const CoreTimeLimit&) = delete;

  void Pause() override {
    if (ThreadSeconds() < end_) {
      control_->RequestPause();
    } else {
      control_->Stop();
    }
  }

 private:
  RunControl* control_;
  double end_;
};

}  // namespace iterand
