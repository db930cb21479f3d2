// A batch on the wire is exactly a serialised v1.Batch.
#include "server/batch_builder.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/engine/stripe_buffer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

std::string Bytes(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

std::shared_ptr<Segment> Generate(const Stream& stream, std::uint32_t lane) {
  auto segment = std::make_shared<Segment>();
  const std::unique_ptr<Workspace> workspace = stream.NewWorkspace();
  EXPECT_TRUE(stream.GenerateSegment(lane, 0, *workspace, nullptr, *segment).ok());
  return segment;
}

// (length, provenance): short rows are copied, rows from 4 KiB on are referenced.
class BuilderTest : public testing::TestWithParam<std::tuple<int, bool>> {};

TEST_P(BuilderTest, IsTheSerialisedMessage) {
  v1::Recipe recipe = RecipeOf(kCheapRecipe);
  recipe.set_length(std::get<0>(GetParam()));
  const bool provenance = std::get<1>(GetParam());
  const std::shared_ptr<Stream> stream = *Stream::Open(recipe, 0);
  const std::size_t row_bytes = stream->sequence_bytes();
  const std::shared_ptr<const Segment> a = Generate(*stream, 0);
  const std::shared_ptr<const Segment> b = Generate(*stream, 1);

  BatchBuilder builder(*stream, provenance);
  // Runs, single rows, and rows of another segment.
  const std::vector<std::pair<std::shared_ptr<const Segment>, std::uint32_t>> rows = {{a, 0}, {a, 1}, {a, 2}, {b, 5},
                                                                                      {a, 3}, {b, 0}, {b, 1}, {b, 3}};
  for (int round = 0; round < 2; ++round) {  // the builder is used again
    v1::Batch expected;
    expected.set_first_index(1'000'000'007);
    expected.set_stride(4);
    expected.set_rows(static_cast<std::uint32_t>(rows.size()));
    expected.set_length(static_cast<std::uint32_t>(stream->length()));
    expected.set_dtype(v1::DTYPE_UINT8);
    expected.set_fingerprint(stream->fingerprint().data(), stream->fingerprint().size());
    builder.Begin(1'000'000'007, 4, static_cast<int>(rows.size()));
    for (const auto& [segment, offset] : rows) {
      builder.Add(segment, offset);
      expected.mutable_tokens()->append(reinterpret_cast<const char*>(segment->row(offset)), row_bytes);
      if (!provenance) continue;
      const RowProvenance& from = segment->provenance[offset];
      v1::Provenance& to = *expected.add_provenance();
      to.set_lane(from.lane);
      to.set_segment(from.segment);
      to.set_round(from.round);
      to.set_row(from.row);
      to.set_family("uniform");
      to.set_depth(from.depth);
    }
    EXPECT_EQ(builder.missing(), 0);
    const std::string wire = Bytes(builder.Finish());
    EXPECT_TRUE(wire == expected.SerializeAsString());
    EXPECT_LE(wire.size(), builder.MessageBytes(rows.size()));
    v1::Batch parsed;
    ASSERT_TRUE(parsed.ParseFromString(wire));
    EXPECT_EQ(parsed.tokens().size(), rows.size() * row_bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(All, BuilderTest, testing::Combine(testing::Values(64, 6000, 16384), testing::Bool()));

TEST(BatchBuilder, LongRowsAreNotCopied) {
  v1::Recipe recipe = RecipeOf(kCheapRecipe);
  recipe.set_length(16384);
  const std::shared_ptr<Stream> stream = *Stream::Open(recipe, 0);
  std::shared_ptr<const Segment> segment = Generate(*stream, 0);
  const auto* data = reinterpret_cast<const std::uint8_t*>(segment->tokens);
  BatchBuilder builder(*stream, false);
  builder.Begin(0, 1, 2);
  builder.Add(segment, 1);
  builder.Add(segment, 2);
  grpc::ByteBuffer message = builder.Finish();
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(message.Dump(&slices).ok());
  ASSERT_EQ(slices.size(), 2U);
  EXPECT_EQ(slices[1].begin(), data + 16384);

  // The message keeps the segment alive, and later releases it.
  std::weak_ptr<const Segment> watch = segment;
  segment = nullptr;
  EXPECT_FALSE(watch.expired());
  slices.clear();
  message.Clear();
  EXPECT_TRUE(watch.expired());
}

TEST(BatchBuilder, AMessageKeepsLittleMoreThanItsSize) {
  v1::Recipe recipe = RecipeOf(kCheapRecipe);
  recipe.set_length(4096);
  recipe.set_lanes(1);
  recipe.set_segment_sequences(512);
  const std::shared_ptr<Stream> stream = *Stream::Open(recipe, 0);
  std::vector<std::weak_ptr<const Segment>> segments;
  std::string expected;
  BatchBuilder builder(*stream, false);
  builder.Begin(0, 512, 20);
  for (int i = 0; i < 20; ++i) {
    const std::shared_ptr<const Segment> segment = Generate(*stream, 0);
    segments.push_back(segment);
    builder.Add(segment, static_cast<std::uint32_t>(i));
    expected.append(reinterpret_cast<const char*>(segment->row(static_cast<std::size_t>(i))), 4096);
  }
  const grpc::ByteBuffer message = builder.Finish();
  EXPECT_EQ(std::count_if(segments.begin(), segments.end(), [](const auto& segment) { return !segment.expired(); }), 2);
  const std::string wire = Bytes(message);
  EXPECT_EQ(wire.substr(wire.size() - expected.size()), expected);
}

TEST(BatchBuilder, RowsOfAStripeGoAsTheyLie) {
  v1::Recipe recipe = RecipeOf(kCheapRecipe);
  recipe.set_length(2048);
  const std::shared_ptr<Stream> stream = *Stream::Open(recipe, 0);
  const std::unique_ptr<Workspace> workspace = stream->NewWorkspace();
  std::optional<StripeBuffer> stripe(std::in_place, std::make_shared<SegmentAllocator>(*stream), 2);
  std::vector<std::shared_ptr<const Segment>> segments;
  for (std::uint32_t lane = 0; lane < 2; ++lane) {
    const std::shared_ptr<Segment> segment = stripe->NewSegment(lane);
    ASSERT_TRUE(stream->GenerateSegment(lane, 0, *workspace, nullptr, *segment).ok());
    segments.push_back(segment);
  }
  std::string expected;
  BatchBuilder builder(*stream, false);
  builder.Begin(0, 1, 5);
  for (const auto& [lane, offset] : {std::pair<std::size_t, std::uint32_t>{1, 0}, {0, 1}, {1, 1}, {0, 2}, {0, 4}}) {
    builder.Add(segments[lane], offset);
    expected.append(reinterpret_cast<const char*>(Generate(*stream, static_cast<std::uint32_t>(lane))->row(offset)),
                    2048);
  }
  grpc::ByteBuffer message = builder.Finish();
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(message.Dump(&slices).ok());
  ASSERT_EQ(slices.size(), 3U);
  EXPECT_EQ(reinterpret_cast<const std::byte*>(slices[1].begin()), segments[1]->row(0));
  EXPECT_EQ(slices[1].size(), 4U * 2048);
  EXPECT_NE(reinterpret_cast<const std::byte*>(slices[2].begin()), segments[0]->row(4));  // one short row: copied

  // The message keeps the memory, whatever becomes of the segments, and later releases it.
  const std::weak_ptr<void> watch = segments[0]->elsewhere;
  segments.clear();
  stripe.reset();
  slices.clear();
  EXPECT_FALSE(watch.expired());
  EXPECT_EQ(Bytes(message).substr(Bytes(message).size() - expected.size()), expected);
  message.Clear();
  EXPECT_TRUE(watch.expired());
}

TEST(BatchBuilder, MaxRowsFit) {
  const std::shared_ptr<Stream> stream = *Stream::Open(RecipeOf(kCheapRecipe), 0);
  for (const bool provenance : {false, true}) {
    const BatchBuilder builder(*stream, provenance);
    for (const std::size_t bytes : {0, 100, 1000, 4 << 20}) {
      const std::uint64_t rows = builder.MaxRows(bytes);
      if (rows > 0) {
        EXPECT_LE(builder.MessageBytes(rows), bytes);
      }
      EXPECT_GT(builder.MessageBytes(rows + 1), bytes);
    }
  }
}

}  // namespace
}  // namespace iterand
