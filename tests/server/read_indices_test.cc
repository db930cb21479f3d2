// Read with a list of indices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Sequences of 16 tokens in segments of 4, in 4 lanes, by two parts, with masks.
constexpr char kMixture[] = R"({"length": 16, "lanes": 4, "segment_sequences": 4, "loss_mask": true, "mixture": [
    {"name": "chains", "preset": "markov"}, {"name": "networks", "preset": "lstm"}]})";

v1::ReadRequest Listed(const std::vector<std::uint64_t>& indices) {
  v1::ReadRequest request;
  *request.mutable_stream() = SpecOf(kMixture, 3);
  request.mutable_indices()->Add(indices.begin(), indices.end());
  return request;
}

class ReadIndices : public ServiceTest {};

TEST_F(ReadIndices, RowsAreThoseOfTheirIndices) {
  const std::vector<std::uint64_t> indices = {1000, 3, 2, 1, 17, 3, 1'000'000'000'000, 0, ~std::uint64_t{0}, 1001};
  v1::ReadRequest request = Listed(indices);
  request.set_provenance(true);
  const absl::StatusOr<Batch> listed = client_->Read(request);
  ASSERT_TRUE(listed.ok()) << listed.status();
  ASSERT_EQ(listed->rows(), static_cast<int>(indices.size()));
  EXPECT_EQ(listed->first_index(), 1000U);
  EXPECT_EQ(listed->stride(), 0U);
  const std::size_t row_bytes = listed->token_bytes() / indices.size();
  for (std::size_t i = 0; i < indices.size(); ++i) {
    v1::ReadRequest one;
    *one.mutable_stream() = request.stream();
    one.set_first_index(indices[i]);
    one.set_rows(1);
    one.set_provenance(true);
    const absl::StatusOr<Batch> expected = client_->Read(one);
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_TRUE(std::ranges::equal(listed->tokens().subspan(i * row_bytes, row_bytes), expected->tokens())) << i;
    EXPECT_TRUE(std::ranges::equal(listed->loss_mask().subspan(i * 16, 16), expected->loss_mask())) << i;
    EXPECT_EQ(listed->parts()[i], expected->parts()[0]);
    EXPECT_EQ(listed->fingerprint(), expected->fingerprint());
    const Provenance& from = listed->provenance()[i];
    EXPECT_EQ(from.lane, expected->provenance()[0].lane);
    EXPECT_EQ(from.segment, expected->provenance()[0].segment);
    EXPECT_EQ(from.row, expected->provenance()[0].row);
    EXPECT_EQ(from.family, expected->provenance()[0].family);
    EXPECT_EQ(from.part, expected->provenance()[0].part);
  }
}

// 16 sequences of 4 segments, asked for in the worst order, without a cache that would keep them.
TEST_F(ReadIndices, EachSegmentIsGeneratedOnce) {
  ServerOptions options;
  options.cache_bytes = 0;
  Restart(options);
  std::vector<std::uint64_t> indices;
  for (std::uint64_t offset = 0; offset < 4; ++offset) {
    for (std::uint64_t lane = 0; lane < 4; ++lane) indices.push_back(4 * (3 - offset) + lane);
  }
  ASSERT_TRUE(client_->Read(Listed(indices)).ok());
  EXPECT_EQ(server_->stats().segments_generated, 4U);
}

TEST_F(ReadIndices, BadRequests) {
  v1::ReadRequest both = Listed({1, 2});
  both.set_rows(2);
  EXPECT_ERROR(client_->Read(both).status(), absl::StatusCode::kInvalidArgument,
               "indices are given, so first_index, stride and rows must not be");
  both.clear_rows();
  both.set_first_index(1);
  EXPECT_ERROR(client_->Read(both).status(), absl::StatusCode::kInvalidArgument, HasSubstr("first_index"));
  ServerOptions options;
  options.max_batch_bytes = 1024;
  Restart(options);
  EXPECT_ERROR(client_->Read(Listed(std::vector<std::uint64_t>(40, 7))).status(), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("indices is 40"), HasSubstr("at most 28")));
}

}  // namespace
}  // namespace iterand
