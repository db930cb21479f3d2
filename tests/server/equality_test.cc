// The promise over the network: what is served equals what is generated in-process, whatever the shards, batches,
// starts and threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "tests/server/fixture.h"

namespace iterand {
namespace {

// (recipe: a preset's name or JSON, server threads)
class Equality : public testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  void SetUp() override {
    const std::string& name = std::get<0>(GetParam());
    if (name.front() == '{') {
      recipe_ = RecipeOf(name);
      spec_ = SpecOf(name, 3);
    } else {
      recipe_ = *LoadPreset(name);
      recipe_.set_length(64);  // for speed; Served.DefaultPreset has the full length
      spec_ = PresetSpec(name, 3);
      spec_.set_length(64);
    }
    ServerOptions options;
    options.threads = std::get<1>(GetParam());
    server_ = StartServer(options);
    client_ = Connect(*server_);
  }

  v1::StreamRequest Request(std::uint64_t start, std::uint64_t count, std::uint32_t batch_size) const {
    v1::StreamRequest request;
    *request.mutable_stream() = spec_;
    request.set_start(start);
    request.set_count(count);
    request.set_batch_size(batch_size);
    return request;
  }

  v1::Recipe recipe_;
  v1::StreamSpec spec_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<RpcClient> client_;
};

TEST_P(Equality, BatchSizeDoNotMatter) {
  constexpr int kCount = 200;
  const std::string expected = InProcess(recipe_, 3, 0, 1, kCount);
  for (const std::uint32_t rows : {1, 7, 64}) {
    const absl::StatusOr<std::string> served = Served(*client_, Request(0, kCount, rows));
    ASSERT_TRUE(served.ok()) << served.status();
    EXPECT_TRUE(*served == expected) << "batches of " << rows;
  }
}

TEST_P(Equality, ResumeAt1000) {
  const absl::StatusOr<std::string> served = Served(*client_, Request(1000, 100, 64));
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_TRUE(*served == InProcess(recipe_, 3, 1000, 1, 100));
}

TEST_P(Equality, FourShardsInterleaveToTheStream) {
  const absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(recipe_, 3);
  if ((*stream)->lanes() % 4 != 0) GTEST_SKIP() << "one lane";
  constexpr int kCount = 50;  // each
  constexpr std::uint64_t kStart = 2;
  const std::size_t bytes = (*stream)->sequence_bytes();
  const std::string expected = InProcess(recipe_, 3, kStart, 1, 4 * kCount);
  std::string merged(4 * kCount * bytes, '\0');
  for (std::uint32_t rank = 0; rank < 4; ++rank) {
    v1::StreamRequest request = Request(kStart, kCount, 7);
    request.mutable_shard()->set_rank(rank);
    request.mutable_shard()->set_world_size(4);
    const absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(request);
    Batch batch;
    int rows = 0;
    while ((*reader)->Next(batch)) {
      EXPECT_EQ(batch.stride(), 4U);
      for (int i = 0; i < batch.rows(); ++i) {
        const std::uint64_t index = batch.first_index() + static_cast<std::uint64_t>(i) * batch.stride();
        ASSERT_EQ(index % 4, rank);
        ASSERT_GE(index, kStart);
        std::copy_n(reinterpret_cast<const char*>(batch.tokens().data()) + static_cast<std::size_t>(i) * bytes, bytes,
                    merged.data() + (index - kStart) * bytes);
      }
      rows += batch.rows();
    }
    EXPECT_TRUE((*reader)->status().ok()) << (*reader)->status();
    EXPECT_EQ(rows, kCount);
  }
  EXPECT_TRUE(merged == expected);
}

TEST_P(Equality, RandomAccess) {
  for (const auto& [first, stride, rows] :
       {std::tuple<std::uint64_t, std::uint64_t, int>{0, 1, 5}, {17, 3, 40}, {5, 100, 9}, {300, 8, 64}}) {
    v1::ReadRequest request;
    *request.mutable_stream() = spec_;
    request.set_first_index(first);
    request.set_stride(stride);
    request.set_rows(static_cast<std::uint32_t>(rows));
    const absl::StatusOr<Batch> batch = client_->Read(request);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->first_index(), first);
    EXPECT_EQ(batch->stride(), stride);
    EXPECT_EQ(batch->rows(), rows);
    const std::string expected = InProcess(recipe_, 3, first, stride, rows);
    const std::string served(reinterpret_cast<const char*>(batch->tokens().data()), batch->tokens().size());
    EXPECT_TRUE(served == expected) << "from " << first << " in steps of " << stride;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Equality,
                         testing::Combine(testing::Values("up", "uniform", "pointwise", "markov", "automaton",
                                                          std::string(kCheapRecipe), std::string(kNetworkRecipe),
                                                          std::string(kEndlessRecipe)),
                                          testing::Values(1, 2)),
                         [](const testing::TestParamInfo<Equality::ParamType>& parameters) {
                           std::string name = std::get<0>(parameters.param);
                           if (name == kCheapRecipe) name = "cheap";
                           if (name == kNetworkRecipe) name = "network";
                           if (name == kEndlessRecipe) name = "endless";
                           return name + "_" + std::to_string(std::get<1>(parameters.param)) + "_threads";
                         });

TEST(Served, FarIndicesAndTheLast) {
  const std::unique_ptr<Server> server = StartServer();
  const std::unique_ptr<RpcClient> client = Connect(*server);
  const v1::Recipe recipe = RecipeOf(kCheapRecipe);
  for (const std::uint64_t first : {std::uint64_t{1'000'000'000}, ~std::uint64_t{0} - 9}) {
    v1::StreamRequest request;
    *request.mutable_stream() = SpecOf(kCheapRecipe);
    request.set_start(first);
    request.set_count(10);
    const absl::StatusOr<std::string> served = Served(*client, request);
    ASSERT_TRUE(served.ok()) << served.status();
    EXPECT_TRUE(*served == InProcess(recipe, 0, first, 1, 10));
  }
  // Without a count, the stream ends with the last index.
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kCheapRecipe);
  request.set_start(~std::uint64_t{0} - 9);
  const absl::StatusOr<std::string> served = Served(*client, request);
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_EQ(served->size(), 10U * 64);
}

TEST(Served, DefaultPreset) {
  const std::unique_ptr<Server> server = StartServer();
  const std::unique_ptr<RpcClient> client = Connect(*server);
  v1::StreamRequest request;
  *request.mutable_stream() = PresetSpec("up");
  request.set_count(64);
  const absl::StatusOr<std::string> served = Served(*client, request);
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_TRUE(*served == InProcess(*LoadPreset("up"), 0, 0, 1, 64));
}

TEST(Served, LengthOverride) {
  const std::unique_ptr<Server> server = StartServer();
  const std::unique_ptr<RpcClient> client = Connect(*server);
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kCheapRecipe);
  request.mutable_stream()->set_length(96);
  request.set_count(20);
  v1::Recipe recipe = RecipeOf(kCheapRecipe);
  recipe.set_length(96);
  const absl::StatusOr<std::string> served = Served(*client, request);
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_TRUE(*served == InProcess(recipe, 0, 0, 1, 20));
}

// Tokens are sent from where they are, while masks and provenance are gathered. All must belong to the same rows.
TEST(Served, MasksAndProvenanceGoWithTheTokens) {
  constexpr char kTasks[] = R"({"families": [{"tasks": {}}], "loss_mask": true, "length": 128, "lanes": 8,
                                "segment_sequences": 6})";
  constexpr int kRows = 8 * 6 * 3;
  constexpr std::uint64_t kStart = 5;
  const std::shared_ptr<Stream> stream = *Stream::Open(RecipeOf(kTasks), 0);
  std::string tokens(kRows * stream->sequence_bytes(), '\0');
  std::vector<std::uint8_t> mask(kRows * 128);
  std::vector<RowProvenance> provenance(kRows);
  ASSERT_TRUE(stream
                  ->Read({.first_index = kStart, .rows = kRows, .provenance = provenance, .loss_mask = mask},
                         std::as_writable_bytes(std::span(tokens)))
                  .ok());

  const std::unique_ptr<Server> server = StartServer();
  const std::unique_ptr<RpcClient> client = Connect(*server);
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kTasks);
  request.set_start(kStart);
  request.set_count(kRows);
  request.set_batch_size(50);
  request.set_provenance(true);
  const absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client->Stream(request);
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::string served;
  std::string served_mask;
  std::size_t row = 0;
  for (Batch batch; (*reader)->Next(batch);) {
    served.append(reinterpret_cast<const char*>(batch.tokens().data()), batch.tokens().size());
    served_mask.append(reinterpret_cast<const char*>(batch.loss_mask().data()), batch.loss_mask().size());
    for (const Provenance& from : batch.provenance()) {
      ASSERT_LT(row, provenance.size());
      EXPECT_EQ(from.lane, provenance[row].lane);
      EXPECT_EQ(from.segment, provenance[row].segment);
      EXPECT_EQ(from.round, provenance[row].round);
      EXPECT_EQ(from.row, provenance[row].row);
      ++row;
    }
  }
  EXPECT_EQ(row, provenance.size());
  EXPECT_TRUE(served == tokens);
  EXPECT_TRUE(served_mask == std::string(mask.begin(), mask.end()));
}

TEST(Served, ProvenanceIsThatOfTheStream) {
  const std::unique_ptr<Server> server = StartServer();
  const std::unique_ptr<RpcClient> client = Connect(*server);
  v1::ReadRequest request;
  *request.mutable_stream() = SpecOf(kNetworkRecipe);
  request.set_first_index(5);
  request.set_rows(30);
  request.set_provenance(true);
  const absl::StatusOr<Batch> batch = client->Read(request);
  ASSERT_TRUE(batch.ok()) << batch.status();
  ASSERT_EQ(batch->provenance().size(), 30U);

  const absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(RecipeOf(kNetworkRecipe), 0);
  std::vector<RowProvenance> expected(30);
  std::string tokens(30 * (*stream)->sequence_bytes(), '\0');
  ASSERT_TRUE(
      (*stream)
          ->Read({.first_index = 5, .rows = 30, .provenance = expected}, std::as_writable_bytes(std::span(tokens)))
          .ok());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Provenance& row = batch->provenance()[i];
    EXPECT_EQ(row.lane, expected[i].lane);
    EXPECT_EQ(row.segment, expected[i].segment);
    EXPECT_EQ(row.round, expected[i].round);
    EXPECT_EQ(row.row, expected[i].row);
    EXPECT_EQ(row.depth, expected[i].depth);
    EXPECT_EQ(row.family, "lstm");
  }
}

}  // namespace
}  // namespace iterand
