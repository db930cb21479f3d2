// Which connections are closed for cause, by their counts.
#include "server/connection_judge.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>

namespace iterand {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ConnectionJudgeTest : public testing::Test {
 protected:
  std::optional<ConnectionEnd> After(milliseconds time, bool lenient = true) {
    now_ += time;
    return judge_.Judge(counts_, now_, lenient);
  }

  ConnectionJudge::Time now_;
  ConnectionJudge judge_{ConnectionLimits{}, now_};
  ConnectionCounts counts_;
};

TEST_F(ConnectionJudgeTest, AReaderOfAStreamIsHonest) {
  counts_.started = 1;
  for (int second = 0; second < 1000; ++second) {
    counts_.bytes_out += 500 << 20;
    counts_.bytes_in += 5 << 20;  // window updates, ten times what they are
    ASSERT_FALSE(After(seconds(1))) << second;
  }
}

TEST_F(ConnectionJudgeTest, ManySmallCallsAreHonest) {
  for (int second = 0; second < 100; ++second) {
    counts_.started += 10000;
    counts_.succeeded += 10000;
    counts_.messages += 10000;
    counts_.bytes_in += 10000 * 200;
    counts_.accounted_bytes += 10000 * 8300;
    ASSERT_FALSE(After(seconds(1))) << second;
  }
}

TEST_F(ConnectionJudgeTest, LargeRequestsOnTheirWayAreHonest) {
  counts_.started = 5;
  counts_.awaited_bytes = 5 * (16 << 20);
  for (int i = 0; i < 80; ++i) {
    counts_.bytes_in += 1 << 20;
    ASSERT_FALSE(After(milliseconds(10))) << i;
  }
  for (int i = 0; i < 5; ++i) {  // they arrive
    counts_.awaited_bytes -= 16 << 20;
    ++counts_.messages;
    counts_.accounted_bytes += 16 << 20;
    ASSERT_FALSE(After(milliseconds(10))) << i;
  }
  // What follows has no call.
  EXPECT_FALSE(After(seconds(20)));
  counts_.bytes_in += 3 << 20;
  EXPECT_EQ(After(milliseconds(10)), ConnectionEnd::kFlood);
}

TEST_F(ConnectionJudgeTest, ARequestThatCameAndWentBetweenTwoLooksIsHonest) {
  counts_.bytes_in = 16 << 20;
  counts_.accounted_bytes = (16 << 20) + 8192;
  EXPECT_FALSE(After(milliseconds(10)));
}

TEST_F(ConnectionJudgeTest, ARequestThatIsCutOffIsHonest) {
  counts_.started = 1;
  counts_.awaited_bytes = 16 << 20;
  counts_.bytes_in = 10 << 20;
  EXPECT_FALSE(After(milliseconds(100)));
  counts_.awaited_bytes = 0;
  counts_.accounted_bytes = 16 << 20;
  EXPECT_FALSE(After(milliseconds(1)));
  counts_.bytes_in += 6 << 20;  // its client does not know yet
  EXPECT_FALSE(After(milliseconds(100)));
  counts_.failed = 1;
  EXPECT_FALSE(After(seconds(1)));
}

TEST_F(ConnectionJudgeTest, ManyRequestsOnTheirWayAllowNoMoreThanTheServiceReads) {
  counts_.started = 300;
  counts_.accounted_bytes = 300 * 8192;
  counts_.awaited_bytes = 300 * std::uint64_t{16 << 20};
  counts_.bytes_in = 120 << 20;
  EXPECT_EQ(After(milliseconds(10)), ConnectionEnd::kFlood);
}

TEST_F(ConnectionJudgeTest, BytesWithoutCalls) {
  counts_.bytes_in = 1 << 20;
  EXPECT_FALSE(After(milliseconds(10)));
  EXPECT_GT(judge_.unaccounted(), 900000);
  counts_.bytes_in = 3 << 20;
  EXPECT_EQ(After(milliseconds(10)), ConnectionEnd::kFlood);
}

TEST_F(ConnectionJudgeTest, BytesWithoutCallsAfterAnOffence) {
  counts_.bytes_in = 300 << 10;
  EXPECT_EQ(After(milliseconds(10), /*lenient=*/false), ConnectionEnd::kFlood);
}

TEST_F(ConnectionJudgeTest, AHeaderBlockThatNeverEndsIsClosedHoweverSlow) {
  counts_.started = 1;
  std::optional<ConnectionEnd> why;
  int second = 0;
  for (; second < 1000 && !why; ++second) {
    counts_.bytes_in += 50 << 10;  // less than what is allowed in a second
    why = After(seconds(1));
  }
  EXPECT_EQ(why, ConnectionEnd::kFlood);
  EXPECT_LT(second, 50);
}

TEST_F(ConnectionJudgeTest, PingsOfAnIdleConnectionAreHonest) {
  for (int minute = 0; minute < 7 * 24 * 60; ++minute) {
    counts_.bytes_in += 34;
    ASSERT_FALSE(After(seconds(60)));
  }
  EXPECT_LT(judge_.unaccounted(), 300000);
}

TEST_F(ConnectionJudgeTest, ResetsOfAStranger) {
  counts_.started = counts_.failed = 90;
  EXPECT_FALSE(After(milliseconds(10)));
  counts_.started = counts_.failed += 20;
  EXPECT_EQ(After(milliseconds(10)), ConnectionEnd::kResets);
}

TEST_F(ConnectionJudgeTest, CallsInProgressOfAStranger) {
  counts_.started = 190;
  EXPECT_FALSE(After(milliseconds(10)));
  counts_.started = 200;
  EXPECT_EQ(After(milliseconds(10)), ConnectionEnd::kCalls);
}

TEST_F(ConnectionJudgeTest, Resets) {
  counts_.accounted_bytes = 8192;
  counts_.started = counts_.failed = 450;
  EXPECT_FALSE(After(milliseconds(10)));
  for (int second = 0; second < 100; ++second) {  // a client that gives up many calls, for good reasons
    counts_.started = counts_.failed += 90;
    ASSERT_FALSE(After(seconds(1))) << second;
  }
  counts_.started = counts_.failed += 600;
  EXPECT_EQ(After(milliseconds(10)), ConnectionEnd::kResets);
}

TEST_F(ConnectionJudgeTest, CallsInProgress) {
  counts_.accounted_bytes = 8192;
  counts_.started = 380;
  EXPECT_FALSE(After(milliseconds(10)));
  counts_.started = 480;
  counts_.succeeded = 100;
  EXPECT_FALSE(After(milliseconds(10)));
  counts_.started = 500;
  EXPECT_EQ(After(milliseconds(10)), ConnectionEnd::kCalls);
}

TEST_F(ConnectionJudgeTest, CallsWithoutTheToken) {
  for (int second = 0; second < 100; ++second) {
    counts_.unauthenticated += 20;
    ASSERT_FALSE(After(seconds(1))) << second;
  }
  counts_.unauthenticated += 250;
  EXPECT_EQ(After(milliseconds(10)), ConnectionEnd::kUnauthenticated);
}

}  // namespace
}  // namespace iterand
