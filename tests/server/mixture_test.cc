// Mixtures over the wire: the same sequences, parts of rows, and names that are each client's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/fixture.h"
#include "tests/server/http_get.h"

namespace iterand {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// A schedule and a nested mixture with names of its own. Stripes of 8 x 6 = 48 sequences.
std::string Mixture(const std::string& prefix) {
  return absl::StrCat(R"({"length": 64, "lanes": 8, "segment_sequences": 6, "mixture": [
      {"name": ")",
                      prefix,
                      R"(noise", "preset": "uniform", "weight": [{"at": 0, "weight": 1}, {"at": 192, "weight": 0}]},
      {"name": ")",
                      prefix, R"(networks", "recipe": {"description": ")", prefix, R"( own", "mixture": [
        {"preset": "lstm"}, {"name": ")",
                      prefix, R"(deep", "weight": 2, "recipe":
          {"families": [{"gru": {"hidden": 16}}, {"eca": {}}], "mix": "round"}}]}},
      {"preset": "markov", "weight": [{"at": 96, "weight": 0}, {"at": 96, "weight": 1}]}]})");
}

class MixtureService : public ServiceTest {};

TEST_F(MixtureService, ShardsAndBatchesMakeTheStream) {
  const v1::Recipe recipe = RecipeOf(Mixture(""));
  for (const std::uint32_t world : {1U, 2U, 8U}) {
    for (const std::uint32_t rank : {0U, world - 1}) {
      v1::StreamRequest request;
      *request.mutable_stream() = SpecOf(Mixture(""), 4);
      request.mutable_shard()->set_rank(rank);
      request.mutable_shard()->set_world_size(world);
      request.set_count(60);
      request.set_batch_size(7);
      request.set_start(90);
      const std::uint64_t first = 90 + (rank + world - 90 % world) % world;
      EXPECT_TRUE(*Served(*client_, request) == InProcess(recipe, 4, first, world, 60)) << rank << "/" << world;
    }
  }
}

TEST_F(MixtureService, BatchesSayWhichPartMadeEachRow) {
  const std::shared_ptr<Stream> stream = *Stream::Open(RecipeOf(Mixture("")), 4);
  std::vector<RowProvenance> rows(200);
  std::string tokens(200 * 64, '\0');
  ASSERT_TRUE(
      stream->Read({.first_index = 5, .rows = 200, .provenance = rows}, std::as_writable_bytes(std::span(tokens)))
          .ok());
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(Mixture(""), 4);
  request.set_start(5);
  request.set_count(200);
  request.set_batch_size(33);
  const absl::StatusOr<std::unique_ptr<RemoteStream>> remote = client_->Stream(request);
  std::size_t row = 0;
  for (Batch batch; (*remote)->Next(batch);) {
    ASSERT_EQ(batch.parts().size(), static_cast<std::size_t>(batch.rows()));
    EXPECT_TRUE(batch.provenance().empty());
    for (const std::uint8_t part : batch.parts()) EXPECT_EQ(part, rows[row++].part);
  }
  EXPECT_EQ(row, rows.size());
  v1::ReadRequest plain;
  *plain.mutable_stream() = SpecOf(kCheapRecipe);
  plain.set_rows(3);
  EXPECT_TRUE(client_->Read(plain)->parts().empty());
}

// Streams of equal fingerprints are one stream on the server. Names are not part of the fingerprint.
TEST_F(MixtureService, EveryClientSeesItsOwnNames) {
  const auto names = [&](const std::string& prefix) {
    v1::ReadRequest request;
    *request.mutable_stream() = SpecOf(Mixture(prefix));
    request.set_first_index(96);
    request.set_rows(8);
    request.set_provenance(true);
    const absl::StatusOr<Batch> batch = client_->Read(request);
    EXPECT_TRUE(batch.ok()) << batch.status();
    std::vector<std::string> found;
    for (const Provenance& row : batch->provenance()) found.push_back(row.part);
    return found;
  };
  const auto describe = [&](const std::string& prefix, std::uint64_t at) {
    v1::DescribeRequest request;
    *request.mutable_stream() = SpecOf(Mixture(prefix));
    request.set_at(at);
    return client_->Describe(request)->stream();
  };
  const std::vector<std::string> first = names("secret ");
  const std::vector<std::string> second = names("my ");
  ASSERT_EQ(first.size(), second.size());
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (first[i] == "markov") {
      EXPECT_EQ(second[i], "markov");
    } else {
      EXPECT_EQ(first[i].substr(0, 7), "secret ");
      EXPECT_EQ(second[i].substr(0, 3), "my ");
    }
    EXPECT_THAT(second[i], Not(HasSubstr("secret")));
  }
  const v1::StreamInfo secret = describe("secret ", 0);
  const v1::StreamInfo mine = describe("my ", 1000);
  EXPECT_EQ(secret.fingerprint(), mine.fingerprint());
  EXPECT_THAT(mine.DebugString(), Not(HasSubstr("secret")));
  EXPECT_THAT(mine.recipe_json(), HasSubstr("my deep"));
  std::vector<std::string> parts;
  std::vector<double> shares;
  for (const v1::PartInfo& part : mine.parts()) {
    parts.push_back(part.name());
    shares.push_back(part.share());
  }
  EXPECT_THAT(parts, ElementsAre("my noise", "my networks/lstm", "my networks/my deep", "markov"));
  EXPECT_THAT(shares, ElementsAre(0, ::testing::DoubleEq(0.5 / 3), ::testing::DoubleEq(1.0 / 3), 0.5));
  EXPECT_EQ(secret.parts(0).share(), 0.5);
  const double networks = (secret.parts(1).flops_per_token() + 2 * secret.parts(2).flops_per_token()) / 3;
  EXPECT_NEAR(secret.cost().flops_per_token(), 0.5 * networks, 1e-6 * networks);
}

// Names from clients are in no label, so a client cannot create endless series.
TEST_F(MixtureService, MetricsKnowNoNames) {
  ServerOptions options;
  options.metrics_listen = "127.0.0.1:0";
  Restart(options);
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(Mixture("invented"));
  request.set_count(50);
  request.set_provenance(true);
  ASSERT_TRUE(Served(*client_, request).ok());
  const std::string text = HttpGet(server_->metrics_address(), "/metrics");
  EXPECT_THAT(text, HasSubstr("\niterand_sequences_total 50\n"));
  EXPECT_THAT(text, Not(HasSubstr("invented")));
  EXPECT_THAT(text, Not(HasSubstr("markov")));
}

TEST_F(MixtureService, ErrorsNameTheirPart) {
  v1::StreamRequest request;
  *request.mutable_stream() =
      SpecOf(R"({"length": 64, "mixture": [{"preset": "uniform"}, {"preset": "eca", "weight": -1}]})");
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument,
               "mixture[1].weight.fixed: is -1, must be in [0, 1e+06]");
  *request.mutable_stream() = SpecOf(R"({"length": 64, "mixture": [{"preset": "uniform"}, {"recipe":
      {"families": [{"uniform": {}}], "band": {"high": 0.1}, "starvation_rounds": 20}}]})");
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kFailedPrecondition,
               HasSubstr("filters of mixture[1]: no row survived band in 20 rounds"));
}

}  // namespace
}  // namespace iterand
