#include "randnet/run_control.h"

#include <gtest/gtest.h>

namespace iterand {
namespace {

class CountingPauser final : public RunControl::Pauser {
 public:
  void Pause() override { ++pauses; }
  int pauses = 0;
};

TEST(RunControl, GoesOnUntilItIsStopped) {
  RunControl control;
  EXPECT_FALSE(control.ShouldStop());
  EXPECT_FALSE(control.stopped());
  control.Stop();
  EXPECT_TRUE(control.ShouldStop());
  EXPECT_TRUE(control.ShouldStop());
  EXPECT_TRUE(control.stopped());
}

TEST(RunControl, PausesOncePerRequest) {
  CountingPauser pauser;
  RunControl control(&pauser);
  EXPECT_FALSE(control.ShouldStop());
  EXPECT_EQ(pauser.pauses, 0);
  control.RequestPause();
  control.RequestPause();
  EXPECT_FALSE(control.stopped());  // does not pause
  EXPECT_EQ(pauser.pauses, 0);
  EXPECT_FALSE(control.ShouldStop());
  EXPECT_FALSE(control.ShouldStop());
  EXPECT_EQ(pauser.pauses, 1);
  control.RequestPause();
  control.Stop();
  EXPECT_TRUE(control.ShouldStop());
  EXPECT_EQ(pauser.pauses, 2);
}

TEST(RunControl, WithoutPauserItNeverWaits) {
  CountingPauser pauser;
  RunControl control(&pauser);
  control.set_pauser(nullptr);
  control.RequestPause();
  EXPECT_FALSE(control.ShouldStop());
  EXPECT_EQ(pauser.pauses, 0);
}

}  // namespace
}  // namespace iterand
