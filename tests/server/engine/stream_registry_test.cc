#include "server/engine/stream_registry.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "tests/server/fixture.h"

namespace iterand {
namespace {

TEST(SharedStream, HasAsManyWorkspacesAsItMay) {
  SharedStream stream(*Stream::Open(RecipeOf(kCheapRecipe), 0), 2);
  EXPECT_EQ(stream.EstimatedBytes(), 0U);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(stream.HasWorkspace());
    EXPECT_EQ(stream.TakeWorkspace(), nullptr);  // the caller makes it
  }
  EXPECT_FALSE(stream.HasWorkspace());
  EXPECT_EQ(stream.EstimatedBytes(), 2 * stream.stream().Cost().workspace_bytes);
  stream.ReturnWorkspace(stream.stream().NewWorkspace());
  EXPECT_TRUE(stream.HasWorkspace());
  EXPECT_NE(stream.TakeWorkspace(), nullptr);
  EXPECT_FALSE(stream.HasWorkspace());
}

TEST(SharedStream, CostsWhatItsSegmentsHaveCost) {
  SharedStream stream(*Stream::Open(RecipeOf(kCheapRecipe), 0), 1);
  EXPECT_GT(stream.SecondsPerSegment(), 0);
  stream.CountSegment(1);
  stream.CountSegment(3);
  EXPECT_DOUBLE_EQ(stream.SecondsPerSegment(), 2);
  const auto bytes = static_cast<double>(stream.segment_bytes());
  EXPECT_TRUE(stream.CostsAtLeast(1.9 / bytes));
  EXPECT_FALSE(stream.CostsAtLeast(2.1 / bytes));
}

TEST(SharedStream, ExpensiveRecipesHaveLargerEstimates) {
  const SharedStream cheap(*Stream::Open(RecipeOf(kCheapRecipe), 0), 1);
  const SharedStream expensive(*Stream::Open(RecipeOf(kNetworkRecipe), 0), 1);
  EXPECT_GT(expensive.SecondsPerSegment(), 10 * cheap.SecondsPerSegment());
}

TEST(StreamRegistry, EqualStreamsAreOne) {
  StreamRegistry registry(1, 1 << 30, nullptr);
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  std::vector<std::shared_ptr<SharedStream>> streams(8);
  std::vector<std::thread> threads;
  threads.reserve(streams.size());
  for (std::size_t i = 0; i < streams.size(); ++i) {
    threads.emplace_back([&, i] { streams[i] = *registry.Open(recipe, i % 2); });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 2; i < streams.size(); ++i) EXPECT_EQ(streams[i], streams[i % 2]);
  EXPECT_NE(streams[0], streams[1]);
  EXPECT_EQ(registry.stats().idle_streams, 0);
  streams.clear();
  EXPECT_EQ(registry.stats().idle_streams, 2);
  v1::Recipe broken = recipe;
  broken.set_length(-1);
  EXPECT_EQ(registry.Open(broken, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(StreamRegistry, KeepsIdleStreamsWithinBounds) {
  const v1::Recipe recipe = RecipeOf(kNetworkRecipe);
  const std::size_t each = (*Stream::Open(recipe, 0))->Cost().workspace_bytes;
  StreamRegistry registry(1, 3 * each, nullptr);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const std::shared_ptr<SharedStream> stream = *registry.Open(recipe, seed);
    EXPECT_EQ(stream->TakeWorkspace(), nullptr);
    stream->ReturnWorkspace(stream->stream().NewWorkspace());
    EXPECT_EQ(registry.stats().used_bytes, each);
  }
  EXPECT_EQ(registry.stats().idle_streams, 3);
  EXPECT_EQ(registry.stats().idle_bytes, 3 * each);
  EXPECT_EQ(registry.stats().used_bytes, 0U);
  // Found again with its workspace.
  const std::shared_ptr<SharedStream> found = *registry.Open(recipe, 4);
  EXPECT_NE(found->TakeWorkspace(), nullptr);
}

}  // namespace
}  // namespace iterand
