#include "server/engine/segment_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/server/fixture.h"

namespace iterand {
namespace {

class SegmentCacheTest : public testing::Test {
 protected:
  SegmentKey Key(std::uint64_t segment) const { return {stream_->fingerprint(), 0, segment}; }
  std::shared_ptr<Stripe> NewStripe(std::uint32_t lanes = 1) const {
    return std::make_shared<Stripe>(allocator_, lanes);
  }
  std::shared_ptr<SegmentEntry> Ready(SegmentCache& cache, std::uint64_t segment, bool keep = true) {
    const std::shared_ptr<SegmentEntry> entry = cache.Insert(Key(segment), NewStripe(), 0);
    cache.SetRunning(*entry);
    cache.SetReady(entry, std::make_shared<Segment>(), keep, garbage_, notify_);
    return entry;
  }

  const std::shared_ptr<Stream> stream_ = *Stream::Open(RecipeOf(kCheapRecipe), 0);
  const std::shared_ptr<SegmentAllocator> allocator_ = std::make_shared<SegmentAllocator>(*stream_);
  const std::size_t bytes_ = allocator_->segment_bytes();
  std::vector<std::shared_ptr<SegmentEntry>> garbage_;
  std::vector<SegmentCache::Callback> notify_;
};

TEST_F(SegmentCacheTest, AnEntryIsSharedUntilItsLastHolderGoes) {
  SegmentCache cache(0);
  const std::shared_ptr<SegmentEntry> entry = cache.Insert(Key(3), NewStripe(), 0);
  EXPECT_EQ(cache.Find(Key(3)), entry);
  EXPECT_EQ(cache.Find(Key(4)), nullptr);
  EXPECT_EQ(cache.counters().queued, 1);
  cache.AddHolder(*entry);
  EXPECT_EQ(cache.counters().hits, 1U);
  EXPECT_EQ(cache.counters().misses, 1U);
  cache.ReleaseHolder(entry);
  EXPECT_EQ(cache.Find(Key(3)), entry);
  cache.ReleaseHolder(entry);
  EXPECT_EQ(cache.Find(Key(3)), nullptr);
  EXPECT_EQ(cache.counters().queued, 0);
}

TEST_F(SegmentCacheTest, ARunningEntryIsStoppedWhenNobodyWantsIt) {
  SegmentCache cache(100 * bytes_);
  const std::shared_ptr<SegmentEntry> entry = cache.Insert(Key(0), NewStripe(), 0);
  cache.SetRunning(*entry);
  EXPECT_EQ(cache.counters().queued, 0);
  EXPECT_FALSE(entry->control.stopped());
  cache.ReleaseHolder(entry);
  EXPECT_TRUE(entry->control.stopped());
  EXPECT_EQ(cache.Find(Key(0)), nullptr);
  // A reader that wants it now gets another entry, and what becomes of the old one does not matter.
  const std::shared_ptr<SegmentEntry> other = cache.Insert(Key(0), NewStripe(), 0);
  cache.SetReady(entry, std::make_shared<Segment>(), true, garbage_, notify_);
  EXPECT_EQ(cache.Find(Key(0)), other);
  EXPECT_EQ(cache.bytes(), 0U);
}

TEST_F(SegmentCacheTest, TheLeastRecentlyUsedLeaveFirst) {
  SegmentCache cache(2 * bytes_);
  for (std::uint64_t i = 0; i < 2; ++i) cache.ReleaseHolder(Ready(cache, i));
  EXPECT_EQ(cache.bytes(), 2 * bytes_);
  const std::shared_ptr<SegmentEntry> used = cache.Find(Key(0));
  cache.AddHolder(*used);
  cache.ReleaseHolder(used);
  cache.ReleaseHolder(Ready(cache, 2));
  EXPECT_EQ(cache.bytes(), 2 * bytes_);
  EXPECT_NE(cache.Find(Key(0)), nullptr);
  EXPECT_EQ(cache.Find(Key(1)), nullptr);
  EXPECT_NE(cache.Find(Key(2)), nullptr);
}

TEST_F(SegmentCacheTest, WhatIsHeldStaysWithoutTheCache) {
  SegmentCache cache(bytes_);
  const std::shared_ptr<SegmentEntry> held = Ready(cache, 0);
  Ready(cache, 1);  // takes its room
  EXPECT_EQ(cache.bytes(), bytes_);
  EXPECT_FALSE(held->in_cache);
  EXPECT_EQ(cache.Find(Key(0)), held);
  cache.ReleaseHolder(held);
  EXPECT_EQ(cache.Find(Key(0)), nullptr);
}

TEST_F(SegmentCacheTest, WhatIsNotKeptLeavesWithItsHolder) {
  SegmentCache cache(100 * bytes_);
  const std::shared_ptr<SegmentEntry> entry = Ready(cache, 0, /*keep=*/false);
  EXPECT_EQ(cache.bytes(), 0U);
  EXPECT_EQ(cache.Find(Key(0)), entry);
  cache.ReleaseHolder(entry);
  EXPECT_EQ(cache.Find(Key(0)), nullptr);
  EXPECT_EQ(cache.entries(), 0U);
}

TEST_F(SegmentCacheTest, StripesAreCountedAndEvictedWhole) {
  SegmentCache cache(4 * bytes_);
  const std::shared_ptr<Stripe> stripe = NewStripe(4);
  for (std::uint32_t lane = 0; lane < 2; ++lane) {
    const std::shared_ptr<SegmentEntry> entry = cache.Insert(Key(lane), stripe, lane);
    cache.SetRunning(*entry);
    cache.SetReady(entry, std::make_shared<Segment>(), true, garbage_, notify_);
    cache.ReleaseHolder(entry);
    EXPECT_EQ(cache.bytes(), 4 * bytes_);
  }
  cache.ReleaseHolder(Ready(cache, 9));
  EXPECT_EQ(cache.bytes(), bytes_);
  EXPECT_EQ(cache.entries(), 1U);
  EXPECT_EQ(garbage_.size(), 2U);
}

TEST_F(SegmentCacheTest, WaitersAreNotifiedOfEitherEnd) {
  SegmentCache cache(0);
  int calls = 0;
  SegmentWaiter waiter;
  waiter.on_ready = std::make_shared<const std::function<void()>>([&calls] { ++calls; });
  for (const bool ready : {true, false}) {
    const std::shared_ptr<SegmentEntry> entry = cache.Insert(Key(0), NewStripe(), 0);
    cache.SetRunning(*entry);
    entry->waiters.push_back(&waiter);
    waiter.waits_for = entry.get();
    if (ready) {
      cache.SetReady(entry, std::make_shared<Segment>(), false, garbage_, notify_);
    } else {
      cache.SetFailed(entry, absl::InternalError("broken"), notify_);
      EXPECT_EQ(entry->error.message(), "broken");
      EXPECT_EQ(cache.Find(Key(0)), nullptr);
    }
    EXPECT_EQ(waiter.waits_for, nullptr);
    ASSERT_EQ(notify_.size(), 1U);
    (*notify_.front())();
    notify_.clear();
    cache.ReleaseHolder(entry);
  }
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace iterand
