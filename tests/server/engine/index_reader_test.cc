#include "server/engine/index_reader.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "server/engine/engine.h"
#include "tests/server/engine/consumer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

// The rows of all indices, or an error.
absl::StatusOr<std::string> ReadAll(Engine& engine, const std::shared_ptr<SharedStream>& stream,
                                    std::span<const std::uint64_t> indices) {
  const std::size_t row_bytes = stream->stream().sequence_bytes();
  std::string bytes(indices.size() * row_bytes, '\0');
  Signal signal;
  const auto reader = engine.NewIndexReader(stream, indices, [&signal] { signal.Raise(); });
  if (!reader.ok()) return reader.status();
  for (;;) {
    const absl::StatusOr<bool> whole =
        (*reader)->Take([&](std::size_t row, const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
          std::memcpy(bytes.data() + row * row_bytes, segment->row(offset), row_bytes);
        });
    if (!whole.ok()) return whole.status();
    if (*whole) return bytes;
    signal.Wait();
  }
}

std::string Expected(const v1::Recipe& recipe, std::span<const std::uint64_t> indices) {
  std::string bytes;
  for (const std::uint64_t index : indices) bytes += InProcess(recipe, 0, index, 1, 1);
  return bytes;
}

// kCheapRecipe: 8 lanes, segments of 6 sequences.
TEST(IndexReader, GivesAnyIndicesInTheOrderAsked) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  Engine engine(Options(2, 0));
  const std::shared_ptr<SharedStream> stream = *engine.Open(recipe, 0);
  std::vector<std::uint64_t> indices = {1'000'000'000'000, 5, 5, 47, 48, 0, 13, ~std::uint64_t{0}, 1, 5};
  for (std::uint64_t index = 300; index > 100; index -= 7) indices.push_back(index);
  const absl::StatusOr<std::string> bytes = ReadAll(engine, stream, indices);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_TRUE(*bytes == Expected(recipe, indices));
  EXPECT_EQ(engine.stats().held_bytes, 0U);
}

TEST(IndexReader, GeneratesEachSegmentOnce) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  // Memory for one segment at a time.
  Engine engine(Options(2, 0, 0, /*max_stream_bytes=*/(*Stream::Open(recipe, 0))->Cost().segment_bytes + 6 * 64));
  const std::shared_ptr<SharedStream> stream = *engine.Open(recipe, 0);
  std::vector<std::uint64_t> indices;
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t index = 0; index < 3 * 48; ++index) indices.push_back((index * 5) % (3 * 48));
  }
  const absl::StatusOr<std::string> bytes = ReadAll(engine, stream, indices);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_TRUE(*bytes == Expected(recipe, indices));
  EXPECT_EQ(engine.stats().segments_generated, 3U * 8);
}

TEST(IndexReader, NoIndexIsWholeAtOnce) {
  Engine engine(Options(1));
  const absl::StatusOr<std::string> bytes = ReadAll(engine, *engine.Open(RecipeOf(kCheapRecipe), 0), {});
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, "");
}

TEST(IndexReader, FindsWhatTheCacheKeeps) {
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  Engine engine(Options(1, 16 << 20));
  const std::shared_ptr<SharedStream> stream = *engine.Open(recipe, 0);
  for (std::uint64_t index = 0; index < 48; ++index) {
    EXPECT_TRUE(*ReadAll(engine, stream, {{index}}) == InProcess(recipe, 0, index, 1, 1));
  }
  EXPECT_EQ(engine.stats().segments_generated, 8U);
}

TEST(IndexReader, ReportsErrorsAndCanBeClosedEarly) {
  const v1::Recipe starving = RecipeOf(R"({"families": [{"constant": {}}], "length": 64, "lanes": 2,
      "segment_sequences": 8, "band": {"low": 0.5, "high": 1}, "starvation_rounds": 5})");
  Engine engine(Options(2));
  EXPECT_EQ(ReadAll(engine, *engine.Open(starving, 0), {{0, 1, 2}}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  const std::shared_ptr<SharedStream> stream = *engine.Open(RecipeOf(kNetworkRecipe), 0);
  for (int i = 0; i < 20; ++i) {
    const std::vector<std::uint64_t> indices = {0, 1, 2, 3, 1000, 2000, 3000};
    const auto reader = engine.NewIndexReader(stream, indices, [] {});
    ASSERT_TRUE(reader.ok());
    (*reader)->Close();
    (*reader)->Close();
  }
  EXPECT_EQ(engine.stats().held_bytes, 0U);
}

}  // namespace
}  // namespace iterand
