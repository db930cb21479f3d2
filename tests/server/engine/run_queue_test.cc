#include "server/engine/run_queue.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <variant>

#include "tests/server/fixture.h"

namespace iterand {
namespace {

class RunQueueTest : public testing::Test {
 protected:
  static std::shared_ptr<SharedStream> Shared(const char* json, int workspaces = 2) {
    return std::make_shared<SharedStream>(*Stream::Open(RecipeOf(json), 0), workspaces);
  }

  std::shared_ptr<SegmentEntry> Entry(const SharedStream& stream, std::uint32_t lane, std::uint64_t segment) {
    return cache_.Insert({stream.stream().fingerprint(), lane, segment},
                         std::make_shared<Stripe>(stream.allocator(), 1), 0);
  }

  PendingSegments Pending(std::shared_ptr<SharedStream> stream, std::uint64_t segments) {
    PendingSegments pending{scheduler_.NewAccount(), std::move(stream), {}};
    for (std::uint64_t s = 0; s < segments; ++s) pending.entries.push_back(Entry(*pending.stream, 0, s));
    return pending;
  }

  // The task that is next, as the engine begins it.
  SegmentTask Begin() {
    RunQueue::Work work = queue_.Take(scheduler_);
    EXPECT_TRUE(std::holds_alternative<SegmentTask>(work));
    SegmentTask task = std::move(std::get<SegmentTask>(work));
    if (task.entry()->GetState() == SegmentEntry::State::kQueued) {
      cache_.SetRunning(*task.entry());
      if (task.stream()->serial_lanes()) task.stream()->SetBusy(task.entry()->key.lane, true);
    }
    return task;
  }

  void Charge(const std::shared_ptr<FairScheduler::Account>& account, double seconds) {
    scheduler_.EndSlice(scheduler_.BeginSlice(account), seconds);
  }

  FairScheduler scheduler_;
  SegmentCache cache_{0};
  RunQueue queue_;
};

TEST_F(RunQueueTest, IsEmptyAtFirst) {
  EXPECT_FALSE(queue_.HasWork(scheduler_));
  EXPECT_TRUE(std::holds_alternative<std::monostate>(queue_.Take(scheduler_)));
  EXPECT_EQ(queue_.TakePaused(), nullptr);
}

TEST_F(RunQueueTest, TheReaderThatUsedLeastIsNext) {
  PendingSegments a = Pending(Shared(kCheapRecipe), 3);
  PendingSegments b = Pending(Shared(kNetworkRecipe), 1);
  queue_.Add(&a);
  queue_.Add(&b);
  queue_.Add(&a);  // once more does not matter
  Charge(a.account, 1);
  EXPECT_TRUE(queue_.HasBefore(scheduler_, *a.account));
  EXPECT_FALSE(queue_.HasBefore(scheduler_, *b.account));
  EXPECT_EQ(Begin().account(), b.account);
  for (std::uint64_t s = 0; s < 3; ++s) EXPECT_EQ(Begin().entry()->key.segment, s);
  EXPECT_FALSE(queue_.HasWork(scheduler_));
  queue_.Remove(&a);
}

TEST_F(RunQueueTest, WhatOthersHaveBegunIsPassedOver) {
  PendingSegments a = Pending(Shared(kCheapRecipe), 2);
  cache_.SetRunning(*a.entries.front());
  queue_.Add(&a);
  EXPECT_EQ(Begin().entry()->key.segment, 1U);
  EXPECT_FALSE(queue_.HasWork(scheduler_));
}

TEST_F(RunQueueTest, AReaderFinishesWhatItHasBegun) {
  PendingSegments a = Pending(Shared(kCheapRecipe), 2);
  queue_.Add(&a);
  SegmentTask first = Begin();
  queue_.Add(std::move(first));
  EXPECT_EQ(Begin().entry()->key.segment, 0U);
  EXPECT_EQ(Begin().entry()->key.segment, 1U);
}

TEST_F(RunQueueTest, WhatNobodyWantsGoesFirst) {
  PendingSegments a = Pending(Shared(kCheapRecipe), 1);
  PendingSegments b = Pending(Shared(kNetworkRecipe), 1);
  queue_.Add(&a);
  SegmentTask unwanted = Begin();
  Charge(a.account, 100);
  cache_.ReleaseHolder(unwanted.entry());
  queue_.Add(std::move(unwanted));
  queue_.Add(&b);
  EXPECT_TRUE(queue_.HasBefore(scheduler_, *b.account));
  EXPECT_TRUE(Begin().cancelled());
  EXPECT_EQ(Begin().account(), b.account);
}

TEST_F(RunQueueTest, AFullStreamFinishesWhatItHasBegun) {
  const std::shared_ptr<SharedStream> stream = Shared(kNetworkRecipe, /*workspaces=*/1);
  PendingSegments a = Pending(stream, 1);
  PendingSegments other = Pending(Shared(kCheapRecipe), 1);
  queue_.Add(&a);
  SegmentTask begun = Begin();
  stream->TakeWorkspace();
  Charge(a.account, 100);
  Charge(other.account, 1);
  PendingSegments b = Pending(stream, 1);
  b.entries = {Entry(*stream, 1, 0)};
  queue_.Add(&b);
  queue_.Add(&other);
  EXPECT_FALSE(queue_.HasBefore(scheduler_, *other.account));  // b cannot begin
  queue_.Add(std::move(begun));
  EXPECT_TRUE(queue_.HasBefore(scheduler_, *other.account));
  EXPECT_EQ(Begin().account(), a.account);  // in the place of b
  stream->ReturnWorkspace(nullptr);
  EXPECT_EQ(Begin().account(), b.account);
}

TEST_F(RunQueueTest, ALaneOfAnEndlessPoolHasOneInProgress) {
  const std::shared_ptr<SharedStream> stream = Shared(kEndlessRecipe);
  PendingSegments a = Pending(stream, 2);
  queue_.Add(&a);
  SegmentTask first = Begin();
  EXPECT_FALSE(queue_.HasWork(scheduler_));
  stream->SetBusy(0, false);
  EXPECT_TRUE(queue_.HasWork(scheduler_));
}

TEST_F(RunQueueTest, PausedTasksAndPiecesHaveTheirTurn) {
  PendingSegments a = Pending(Shared(kCheapRecipe), 1);
  queue_.Add(&a);
  const SegmentTask task = Begin();
  PausedTask paused;
  paused.task = &task;
  Charge(a.account, 1);
  int calls = 0;
  PendingPiece piece{scheduler_.NewAccount(), [&calls] { ++calls; }};
  Charge(piece.account, 0.5);
  queue_.Add(&paused);
  queue_.Add(&piece);
  RunQueue::Work work = queue_.Take(scheduler_);
  ASSERT_TRUE(std::holds_alternative<PendingPiece>(work));
  std::get<PendingPiece>(work).piece();
  EXPECT_EQ(calls, 1);
  work = queue_.Take(scheduler_);
  ASSERT_TRUE(std::holds_alternative<PausedTask*>(work));
  EXPECT_EQ(std::get<PausedTask*>(work), &paused);
  EXPECT_FALSE(queue_.HasWork(scheduler_));
  queue_.Add(&paused);
  queue_.Add(&piece);
  queue_.Remove(&piece);
  EXPECT_EQ(queue_.TakePaused(), &paused);
  EXPECT_FALSE(queue_.HasWork(scheduler_));
}

}  // namespace
}  // namespace iterand
