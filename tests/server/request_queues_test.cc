// The gate that requests are read through, and the pool that parses them.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "server/calls.h"
#include "server/request_gate.h"
#include "server/request_pool.h"

namespace iterand {
namespace {

// ---- RequestGate ----------------------------------------------------------------------------------------------------

class TestReader final : public RequestGate::Reader {
 public:
  void StartReading(RequestGate::Passage given) override {
    passage = std::make_unique<RequestGate::Passage>(std::move(given));
  }
  bool reading() const { return passage != nullptr; }

  std::unique_ptr<RequestGate::Passage> passage;
};

TEST(RequestGateTest, FirstComeFirstServedWithinTheLimitOfEachMethod) {
  RequestGate gate;
  constexpr int kMost = RequestGate::MaxReads(Method::kExecute);
  std::vector<std::shared_ptr<TestReader>> readers;
  std::vector<std::uint64_t> tickets;
  for (int i = 0; i < kMost + 3; ++i) {
    readers.push_back(std::make_shared<TestReader>());
    tickets.push_back(gate.Enter(Method::kExecute, readers.back()));
    EXPECT_EQ(readers.back()->reading(), i < kMost) << i;
  }
  const auto other = std::make_shared<TestReader>();
  gate.Enter(Method::kStream, other);
  EXPECT_TRUE(other->reading());

  gate.Abandon(Method::kExecute, tickets[kMost]);
  EXPECT_EQ(readers[kMost].use_count(), 1);  // forgotten
  readers[2]->passage = nullptr;
  EXPECT_FALSE(readers[kMost]->reading());
  EXPECT_TRUE(readers[kMost + 1]->reading());
  EXPECT_FALSE(readers[kMost + 2]->reading());
  gate.Abandon(Method::kExecute, tickets[kMost + 1]);  // too late, and harmless
  readers[kMost + 1]->passage = nullptr;
  EXPECT_TRUE(readers[kMost + 2]->reading());
}

// A reader that no longer needs the passage.
class GoneReader final : public RequestGate::Reader {
 public:
  void StartReading(RequestGate::Passage /*given*/) override {}
};

TEST(RequestGateTest, APassageThatNobodyTakesGoesToTheNext) {
  RequestGate gate;
  std::vector<std::shared_ptr<TestReader>> readers;
  for (int i = 0; i < RequestGate::MaxReads(Method::kExecute); ++i) {
    readers.push_back(std::make_shared<TestReader>());
    gate.Enter(Method::kExecute, readers.back());
  }
  for (int i = 0; i < 1000; ++i) gate.Enter(Method::kExecute, std::make_shared<GoneReader>());
  const auto last = std::make_shared<TestReader>();
  gate.Enter(Method::kExecute, last);
  EXPECT_FALSE(last->reading());
  readers[0]->passage = nullptr;
  EXPECT_TRUE(last->reading());
}

// ---- RequestPool ----------------------------------------------------------------------------------------------------

TEST(RequestPoolTest, SmallRequestsDoNotWaitForLargeOnes) {
  absl::Notification begun;
  absl::Notification end;
  absl::Notification small;
  RequestPool pool;
  ASSERT_TRUE(pool.Post(kSmallRequestBytes + 1, [&] {
    begun.Notify();
    end.WaitForNotification();
  }));
  begun.WaitForNotification();
  ASSERT_TRUE(pool.Post(kSmallRequestBytes, [&] { small.Notify(); }));
  small.WaitForNotification();
  end.Notify();
}

TEST(RequestPoolTest, WhatWaitsIsBoundedAndCanBeWithdrawn) {
  struct Kind {
    std::size_t bytes;  // of each request
    std::size_t most;
  };
  for (const Kind kind : {Kind{.bytes = kSmallRequestBytes, .most = RequestPool::kMaxSmallBytes},
                          Kind{.bytes = 1 << 20, .most = RequestPool::kMaxLargeBytes}}) {
    SCOPED_TRACE(kind.bytes);
    const int fit = static_cast<int>(kind.most / kind.bytes);
    absl::Notification end;
    std::atomic<int> run{0};
    const auto kept = std::make_shared<int>();
    {
      RequestPool pool;
      // Both threads are occupied. Only one of them takes the large request, so it comes first.
      for (const std::size_t bytes : {kSmallRequestBytes + 1, std::size_t{1}}) {
        absl::Notification begun;
        ASSERT_TRUE(pool.Post(bytes, [&] {
          begun.Notify();
          end.WaitForNotification();
        }));
        begun.WaitForNotification();
      }
      std::vector<std::uint64_t> tickets;
      for (int i = 0; i < fit; ++i) {
        const auto ticket = pool.Post(kind.bytes, [&run, kept] { ++run; });
        ASSERT_TRUE(ticket);
        tickets.push_back(*ticket);
      }
      EXPECT_FALSE(pool.Post(kind.bytes, [&run, kept] { ++run; }));
      EXPECT_EQ(kept.use_count(), 1 + fit);
      for (int i = 0; i < 100; ++i) pool.Withdraw(tickets[static_cast<std::size_t>(i)]);
      EXPECT_EQ(kept.use_count(), 1 + fit - 100);
      absl::BlockingCounter done(100);
      for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.Post(kind.bytes, [&] { done.DecrementCount(); }));
      EXPECT_FALSE(pool.Post(kind.bytes, [] {}));
      end.Notify();
      done.Wait();
    }
    EXPECT_EQ(kept.use_count(), 1);
    EXPECT_EQ(run, fit - 100);
  }
}

// An honest fleet begins many streams at once.
TEST(RequestPoolTest, ThousandsOfShortRequestsMayWait) {
  absl::Notification end;
  absl::BlockingCounter done(5000);
  RequestPool pool;
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(pool.Post(200, [&] {
      end.WaitForNotification();
      done.DecrementCount();
    }));
  }
  end.Notify();
  done.Wait();
}

TEST(RequestPoolTest, TheEndDropsWhatWaits) {
  absl::Notification begun;
  absl::Notification end;
  std::atomic<int> run{0};
  const auto kept = std::make_shared<int>();
  std::thread ending;
  {
    RequestPool pool;
    pool.Post(kSmallRequestBytes + 1, [&] {
      begun.Notify();
      end.WaitForNotification();
    });
    begun.WaitForNotification();
    for (int i = 0; i < 10; ++i) pool.Post(kSmallRequestBytes + 1, [&run, kept] { ++run; });
    ending = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      end.Notify();
    });
  }
  ending.join();
  EXPECT_EQ(run, 0);
  EXPECT_EQ(kept.use_count(), 1);
}

// ---- Slots ----------------------------------------------------------------------------------------------------------

TEST(CallSlotTest, EverySlotIsGivenBackOnce) {
  CallRegistry calls(2);
  absl::StatusOr<CallSlot> first = calls.TakeSlot(Method::kStream);
  absl::StatusOr<CallSlot> second = calls.TakeSlot(Method::kExecute);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(calls.TakeSlot(Method::kRead).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(calls.TakeSlot(Method::kDescribe).ok());  // one of its own, given back at once
  EXPECT_EQ(calls.slots_taken(), 2);
  CallSlot moved = *std::move(first);
  EXPECT_EQ(calls.slots_taken(), 2);
  moved = *std::move(second);
  first = absl::InternalError("");
  second = absl::InternalError("");
  EXPECT_EQ(calls.slots_taken(), 1);
  moved = CallSlot();
  EXPECT_EQ(calls.slots_taken(), 0);
  std::vector<CallSlot> describes;
  describes.reserve(kMaxDescribeCalls);
  for (int i = 0; i < kMaxDescribeCalls; ++i) describes.push_back(*calls.TakeSlot(Method::kDescribe));
  EXPECT_EQ(calls.TakeSlot(Method::kDescribe).status().code(), absl::StatusCode::kUnavailable);
  describes.pop_back();
  EXPECT_TRUE(calls.TakeSlot(Method::kDescribe).ok());
}

TEST(CallSlotTest, ProgramsOfExecuteAreBounded) {
  CallRegistry calls(1000);
  std::vector<Reservation> held;
  held.reserve(16);
  for (int i = 0; i < 16; ++i) held.push_back(*calls.TakeExecuteBytes(16 << 20));
  EXPECT_EQ(calls.TakeExecuteBytes(1).status().code(), absl::StatusCode::kUnavailable);
  held.pop_back();
  EXPECT_TRUE(calls.TakeExecuteBytes(16 << 20).ok());
  EXPECT_EQ(calls.TakeExecuteBytes((16 << 20) + 1).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(calls.TakeExecuteBytes(16 << 20).ok());  // refusals take nothing
}

}  // namespace
}  // namespace iterand
