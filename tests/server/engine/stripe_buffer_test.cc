// Stripes: rows are in the order in which they are sent, every mix of readers gets the right ones, and memory is
// bounded.
#include "server/engine/stripe_buffer.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/config.h"
#include "tests/server/engine/consumer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

// Of kCheapRecipe: 8 lanes, segments of 6 sequences of 64 bytes.
constexpr std::uint64_t kLanes = 8;
constexpr std::uint64_t kSegmentRows = 6;
constexpr std::size_t kSegmentBytes = kSegmentRows * (64 + sizeof(RowProvenance));
constexpr std::size_t kStripeBytes = kLanes * kSegmentBytes;

TEST(StripeBuffer, IsSharedByItsSegmentsAndUsedAgain) {
  const std::shared_ptr<Stream> stream = *Stream::Open(RecipeOf(kCheapRecipe), 0);
  const auto pool = std::make_shared<SegmentAllocator>(*stream);
  EXPECT_EQ(pool->segment_bytes(), kSegmentBytes);
  const std::byte* first = nullptr;
  for (int round = 0; round < 2; ++round) {
    StripeBuffer stripe(pool, 4);
    EXPECT_EQ(stripe.bytes(), 4 * kSegmentBytes);
    const std::shared_ptr<Segment> a = stripe.NewSegment(0);
    const std::shared_ptr<Segment> b = stripe.NewSegment(3);
    EXPECT_EQ(a->elsewhere, b->elsewhere);
    EXPECT_EQ(a->row(1), a->row(0) + 4 * 64);
    EXPECT_EQ(b->row(2), a->row(0) + (2 * 4 + 3) * 64);
    if (round == 0) first = a->row(0);
    EXPECT_EQ(a->row(0), first);
  }
}

#ifndef ABSL_HAVE_ADDRESS_SANITIZER
TEST(SegmentAllocator, MappedBuffersReturnToTheSystem) {
  constexpr std::size_t kBytes = 1 << 20;
  const std::shared_ptr<Stream> stream = *Stream::Open(RecipeOf(kCheapRecipe), 0);
  const auto allocator = std::make_shared<SegmentAllocator>(*stream, /*map_buffers=*/true);
  std::shared_ptr<std::byte> buffer = allocator->NewBuffer(kBytes);
  std::byte* const memory = buffer.get();
  std::fill_n(memory, kBytes, std::byte{1});
  buffer = nullptr;
  EXPECT_EQ(allocator->NewBuffer(kBytes).get(), memory);  // kept free memory
  EXPECT_EQ(msync(memory, kBytes, MS_ASYNC), 0);
  allocator->KeepFree(false);
  EXPECT_EQ(msync(memory, kBytes, MS_ASYNC), -1);  // none is mapped there
  EXPECT_EQ(errno, ENOMEM);
}
#endif

TEST(Stripes, RowsLieInTheOrderInWhichTheyAreSent) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  constexpr int kRows = 500;
  for (const std::uint64_t stride : {1, 2, 4, 8}) {
    for (const std::uint64_t first : {0, 3, 41, 47, 1001}) {
      Engine engine(Options(2, 0));
      Consumer consumer(engine, *engine.Open(recipe, 0), first, stride, kRows);
      const absl::StatusOr<std::string> bytes = consumer.Read(kRows);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      EXPECT_TRUE(*bytes == InProcess(recipe, 0, first, stride, kRows));
      // One piece per stripe. A reader that begins or ends within the first or last rows of a stripe needs no stripe
      // there. Fewer rows than lanes come singly.
      const std::uint64_t stripe_rows = kLanes / stride * kSegmentRows;
      EXPECT_LE(static_cast<std::uint64_t>(consumer.pieces()), kRows / stripe_rows + 2 + 2 * (kLanes / stride))
          << "first " << first << " stride " << stride;
    }
  }
}

TEST(Stripes, ShortReadsHaveNone) {
  Engine engine(Options(1, 0));
  const std::shared_ptr<SharedStream> open = *engine.Open(RecipeOf(kCheapRecipe), 0);
  Consumer row(engine, open, 0, 1, 3);
  ASSERT_TRUE(row.Read(1).ok());
  EXPECT_EQ(engine.stats().largest_held_bytes, 3 * kSegmentBytes);
}

TEST(Stripes, ASegmentChargesForAllOfItsStripe) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  Engine engine(Options(1, /*cache_bytes=*/10 * kStripeBytes));
  const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
  {
    Consumer all(engine, open, 0, 1, kLanes * kSegmentRows * 4);
    ASSERT_TRUE(all.Read(static_cast<int>(kLanes * kSegmentRows * 4)).ok());
  }
  EXPECT_EQ(engine.stats().cache_bytes, 4 * kStripeBytes);
  EXPECT_EQ(engine.stats().segments_generated, 4 * kLanes);
  Consumer lane(engine, open, 2, kLanes, kSegmentRows * 4);
  EXPECT_EQ(engine.stats().held_bytes, 4 * kStripeBytes);
  const absl::StatusOr<std::string> bytes = lane.Read(static_cast<int>(kSegmentRows * 4));
  ASSERT_TRUE(bytes.ok());
  EXPECT_TRUE(*bytes == InProcess(recipe, 0, 2, kLanes, kSegmentRows * 4));
  EXPECT_EQ(engine.stats().segments_generated, 4 * kLanes);
  EXPECT_EQ(engine.stats().held_bytes, 0U);
}

// If a reader's bound has no room for what another's stripes would pin, its segments are generated once more.
TEST(Stripes, ABoundIsWorthMoreThanSharing) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  Engine engine(Options(1, /*cache_bytes=*/10 * kStripeBytes, /*readahead_bytes=*/1));
  const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
  {
    Consumer all(engine, open, 0, 1, kLanes * kSegmentRows * 4);
    ASSERT_TRUE(all.Read(static_cast<int>(kLanes * kSegmentRows * 4)).ok());
  }
  EXPECT_EQ(engine.stats().largest_held_bytes, 2 * kStripeBytes);
  for (int i = 0; i < 2; ++i) {
    Consumer lane(engine, open, 2, kLanes, kSegmentRows * 4);
    const absl::StatusOr<std::string> bytes = lane.Read(static_cast<int>(kSegmentRows * 4));
    ASSERT_TRUE(bytes.ok());
    EXPECT_TRUE(*bytes == InProcess(recipe, 0, 2, kLanes, kSegmentRows * 4));
    EXPECT_EQ(engine.stats().segments_generated, 4 * kLanes + 4);  // which are then shared again
  }
  EXPECT_LE(engine.stats().largest_held_bytes, 2 * kStripeBytes);
}

TEST(Stripes, AreEvictedWhole) {
  Engine engine(Options(1, /*cache_bytes=*/2 * kStripeBytes));
  const std::shared_ptr<SharedStream> open = *engine.Open(RecipeOf(kCheapRecipe), 0);
  constexpr int kRows = static_cast<int>(kLanes * kSegmentRows * 3);
  {
    Consumer all(engine, open, 0, 1, kRows);
    ASSERT_TRUE(all.Read(kRows).ok());
  }
  EXPECT_EQ(engine.stats().cache_bytes, 2 * kStripeBytes);
  const std::uint64_t generated = engine.stats().segments_generated;
  Consumer kept(engine, open, kLanes * kSegmentRows, 1, 2 * kLanes * kSegmentRows);
  ASSERT_TRUE(kept.Read(static_cast<int>(2 * kLanes * kSegmentRows)).ok());
  EXPECT_EQ(engine.stats().segments_generated, generated);
  Consumer gone(engine, open, 0, 1, kLanes);
  ASSERT_TRUE(gone.Read(kLanes).ok());
  EXPECT_EQ(engine.stats().segments_generated, generated + kLanes);
}

// Segments given up in progress leave holes in their stripe; those that follow are elsewhere.
TEST(Stripes, WhatWasGivenUpIsMadeAgain) {
  // A segment is about thirty rounds.
  const v1::Recipe recipe = RecipeOf(R"({"families": [{"lstm": {"hidden": {"fixed": 32}}}], "length": 64, "lanes": 4,
                                         "segment_sequences": 200})");
  constexpr int kRows = 4 * 200 + 100;
  Engine engine(Options(2, 64 << 20));
  const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
  for (std::uint64_t ready = 0; ready < 6; ++ready) {
    Consumer hasty(engine, open, 0, 1, 1'000'000);
    ASSERT_TRUE(WaitUntil([&] {
      const EngineStats stats = engine.stats();
      return stats.segments_generated > ready && stats.segments_running > 0;
    }));
  }
  ASSERT_TRUE(WaitUntil([&] { return engine.stats().segments_running == 0; }));
  EXPECT_GT(engine.stats().segments_cancelled, 0U);
  Consumer patient(engine, open, 0, 1, kRows);
  const absl::StatusOr<std::string> bytes = patient.Read(kRows);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_TRUE(*bytes == InProcess(recipe, 0, 0, 1, kRows));
}

// Readers of all kinds on one stream, some left in the middle, with little memory for what is held and kept.
TEST(Stripes, AnyMixOfFeedsEqualsTheStream) {
  constexpr int kRows = 2000;
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  const std::string all = InProcess(recipe, 0, 0, 1, kRows);
  for (const std::size_t queue : {kStripeBytes, 3 * kStripeBytes, 20 * kStripeBytes}) {
    for (const std::size_t cache : {std::size_t{0}, kStripeBytes + 1, 8 * kStripeBytes}) {
      Engine engine(Options(2, cache, /*readahead_bytes=*/6 * kStripeBytes, queue));
      const std::shared_ptr<SharedStream> open = *engine.Open(recipe, 0);
      std::vector<std::thread> threads;
      threads.reserve(3);
      for (unsigned seed = 0; seed < 3; ++seed) {
        threads.emplace_back([&, seed] {
          std::mt19937 random(seed);
          const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
          for (int i = 0; i < 60; ++i) {
            constexpr int kStrides[] = {1, 1, 2, 4, 8, 3, 12, 48};
            const int stride = kStrides[below(8)];
            const int first = below(kRows / 2);
            const int rows = 1 + below((kRows - first - 1) / stride + 1);
            Consumer consumer(engine, open, static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(stride),
                              static_cast<std::uint64_t>(rows));
            const int stop = below(3) == 0 ? below(rows) : rows;
            for (int taken = 0; taken < stop;) {
              const int some = std::min(stop - taken, 1 + below(100));
              const absl::StatusOr<std::string> bytes = consumer.Read(some);
              ASSERT_TRUE(bytes.ok()) << bytes.status();
              for (int r = 0; r < some; ++r, ++taken) {
                const auto at = static_cast<std::size_t>(first + taken * stride) * 64;
                ASSERT_EQ(bytes->substr(static_cast<std::size_t>(r) * 64, 64), all.substr(at, 64))
                    << "first " << first << " stride " << stride << " row " << taken;
              }
            }
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      const EngineStats stats = engine.stats();
      EXPECT_EQ(stats.held_bytes, 0U);
      EXPECT_LE(stats.largest_held_bytes, queue);
      EXPECT_LE(stats.cache_bytes, cache);
    }
  }
}

}  // namespace
}  // namespace iterand
