// The service's answers to requests, good and bad.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "iterand/v1/noise_service.grpc.pb.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Request = ServiceTest;

// ---- Bad requests ---------------------------------------------------------------------------------------------------

TEST_F(Request, NoRecipe) {
  EXPECT_ERROR(StreamError({}), absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("no recipe"), HasSubstr("preset")));
}

TEST_F(Request, UnknownPreset) {
  v1::StreamRequest request;
  *request.mutable_stream() = PresetSpec("nope");
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kNotFound, AllOf(HasSubstr("nope"), HasSubstr("uniform")));
}

TEST_F(Request, BrokenJson) {
  v1::StreamRequest request;
  request.mutable_stream()->set_recipe_json("{\"families\": [");
  EXPECT_EQ(StreamError(request).code(), absl::StatusCode::kInvalidArgument);
  request.mutable_stream()->set_recipe_json(R"({"familys": []})");
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, HasSubstr("familys"));
}

TEST_F(Request, ImpossibleValue) {
  v1::StreamRequest request = Cheap();
  request.mutable_stream()->set_length(3);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("length"), HasSubstr("3")));
}

TEST_F(Request, EmptyRecipe) {
  v1::StreamRequest request;
  request.mutable_stream()->mutable_recipe();
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, HasSubstr("families"));
}

TEST_F(Request, BadShards) {
  v1::StreamRequest request = Cheap();  // 8 lanes
  request.mutable_shard()->set_world_size(4);
  request.mutable_shard()->set_rank(4);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("shard.rank is 4"), HasSubstr("0 to 3")));
  request.mutable_shard()->set_rank(0);
  for (const auto& [world, nearest] : {std::pair{3U, "2 and 4"}, {5U, "4 and 8"}, {7U, "4 and 8"}, {9U, ": 8 ("}}) {
    request.mutable_shard()->set_world_size(world);
    EXPECT_ERROR(
        StreamError(request), absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr(absl::StrCat("shard.world_size is ", world)), HasSubstr("8 lanes"), HasSubstr(nearest)));
  }
  // An absurd world costs no time.
  request.mutable_shard()->set_world_size(4'000'000'001U);
  EXPECT_EQ(StreamError(request).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Request, BadRows) {
  v1::StreamRequest request = Cheap();
  request.set_batch_size(0);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, HasSubstr("batch_size is 0"));
  request.set_batch_size(1'000'000);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("batch_size is 1000000"), HasSubstr("4194304")));
  v1::ReadRequest read;
  *read.mutable_stream() = SpecOf(kCheapRecipe);
  EXPECT_ERROR(client_->Read(read).status(), absl::StatusCode::kInvalidArgument, HasSubstr("rows is 0"));
  read.set_rows(1'000'000);
  EXPECT_ERROR(client_->Read(read).status(), absl::StatusCode::kInvalidArgument, HasSubstr("rows is 1000000"));
  read.set_rows(1);
  read.set_stride(0);
  EXPECT_ERROR(client_->Read(read).status(), absl::StatusCode::kInvalidArgument, HasSubstr("stride is 0"));
}

TEST_F(Request, ASequenceThatFitsNoBatch) {
  ServerOptions options;
  options.max_batch_bytes = 1024;
  Restart(options);
  v1::StreamRequest request = Cheap();
  request.set_batch_size(1);
  request.mutable_stream()->set_length(512);
  EXPECT_TRUE(StreamError(request).ok());
  request.mutable_stream()->set_loss_mask(true);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kResourceExhausted,
               AllOf(HasSubstr("takes up to 1120 bytes, 512 bytes of tokens, 512 of its mask and a header"),
                     HasSubstr("at most 1024 bytes")));
  request.set_provenance(true);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kResourceExhausted, HasSubstr("of its provenance"));
}

// The largest batch that the server allows is one that a client with gRPC's defaults receives.
TEST_F(Request, LargestBatchArrivesByDefault) {
  const std::shared_ptr<grpc::Channel> channel =
      grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
  const std::unique_ptr<v1::NoiseService::Stub> stub = v1::NoiseService::NewStub(channel);
  v1::ReadRequest request;
  *request.mutable_stream() = SpecOf(kCheapRecipe);
  request.mutable_stream()->set_length(65536);
  request.set_rows(63);
  grpc::ClientContext context;
  v1::Batch batch;
  const grpc::Status status = stub->Read(&context, request, &batch);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(batch.tokens().size(), std::size_t{63} << 16);
  v1::Recipe recipe = RecipeOf(kCheapRecipe);
  recipe.set_length(65536);
  EXPECT_TRUE(batch.tokens() == InProcess(recipe, 0, 0, 1, 63));
  request.set_rows(64);
  EXPECT_ERROR(client_->Read(request).status(), absl::StatusCode::kInvalidArgument, HasSubstr("at most 63"));
}

TEST_F(Request, BeyondTheLastIndex) {
  v1::StreamRequest request = Cheap();
  request.set_start(~std::uint64_t{0} - 3);
  request.set_count(5);
  EXPECT_EQ(StreamError(request).code(), absl::StatusCode::kOutOfRange);
  request.clear_count();
  request.mutable_shard()->set_world_size(8);
  request.mutable_shard()->set_rank(0);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kOutOfRange, HasSubstr("shard 0 of 8"));
}

TEST_F(Request, CountZeroEndsAtOnce) {
  v1::StreamRequest request = Cheap();
  request.set_count(0);
  EXPECT_EQ(*Served(*client_, request), "");
}

TEST_F(Request, ExpectedFingerprint) {
  v1::DescribeRequest describe;
  *describe.mutable_stream() = SpecOf(kCheapRecipe);
  const absl::StatusOr<v1::DescribeResponse> described = client_->Describe(describe);
  ASSERT_TRUE(described.ok()) << described.status();

  v1::StreamRequest request = Cheap();
  request.set_count(1);
  request.mutable_stream()->set_expected_fingerprint(described->stream().fingerprint());
  EXPECT_TRUE(Served(*client_, request).ok());
  request.mutable_stream()->set_seed(1);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr("seed 1"), HasSubstr(absl::StrCat("engine version ", kEngineVersion))));
  request.mutable_stream()->set_expected_fingerprint("short");
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, HasSubstr("5 bytes"));
}

TEST_F(Request, StarvingFilterEndsTheStream) {
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(R"({"families": [{"constant": {}}], "length": 64, "lanes": 2,
      "segment_sequences": 8, "band": {"low": 0.5, "high": 1}, "starvation_rounds": 5})");
  EXPECT_EQ(StreamError(request).code(), absl::StatusCode::kFailedPrecondition);
}

// ---- Describe -------------------------------------------------------------------------------------------------------

TEST_F(Request, Describe) {
  const absl::StatusOr<v1::DescribeResponse> all = client_->Describe({});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->engine_version(), kEngineVersion);
  EXPECT_EQ(static_cast<std::size_t>(all->presets_size()), AllPresets().size());
  EXPECT_GT(all->families_size(), 0);
  EXPECT_FALSE(all->has_stream());
  for (const v1::FamilyInfo& family : all->families()) {
    if (family.name() == "lstm") {
      EXPECT_TRUE(family.reads_input());
    }
    if (family.name() == "uniform") {
      EXPECT_FALSE(family.reads_input());
    }
  }

  v1::DescribeRequest request;
  *request.mutable_stream() = PresetSpec("lstm", 7);
  const absl::StatusOr<v1::DescribeResponse> described = client_->Describe(request);
  ASSERT_TRUE(described.ok()) << described.status();
  const std::shared_ptr<Stream> stream = *Stream::Open(*LoadPreset("lstm"), 7);
  EXPECT_EQ(described->stream().seed(), 7U);
  EXPECT_EQ(described->stream().fingerprint(), std::string(stream->fingerprint().begin(), stream->fingerprint().end()));
  EXPECT_EQ(described->stream().recipe().SerializeAsString(), stream->recipe().SerializeAsString());
  EXPECT_EQ(ParseRecipeJson(described->stream().recipe_json())->SerializeAsString(),
            stream->recipe().SerializeAsString());
  EXPECT_EQ(described->stream().dtype(), v1::DTYPE_UINT8);
  EXPECT_GT(described->stream().cost().flops_per_token(), 0);
  EXPECT_GT(described->stream().cost().segment_bytes(), 0U);

  *request.mutable_stream() = PresetSpec("nope");
  EXPECT_EQ(client_->Describe(request).status().code(), absl::StatusCode::kNotFound);
}

// Streams are shared by their fingerprint, which leaves the description out.
TEST_F(Request, DescribeKeepsADescriptionToItsOwner) {
  v1::DescribeRequest request;
  v1::Recipe recipe = RecipeOf(kCheapRecipe);
  for (const char* description : {"mine", "", "yours"}) {
    recipe.set_description(description);
    if (*description == '\0') recipe.clear_description();
    *request.mutable_stream()->mutable_recipe() = recipe;
    const absl::StatusOr<v1::DescribeResponse> described = client_->Describe(request);
    ASSERT_TRUE(described.ok()) << described.status();
    EXPECT_EQ(described->stream().recipe().has_description(), recipe.has_description());
    EXPECT_EQ(described->stream().recipe().description(), description);
    EXPECT_EQ(ParseRecipeJson(described->stream().recipe_json())->description(), description);
  }
}

TEST_F(Request, TooLargeForAStream) {
  v1::DescribeRequest describe;
  for (int i = 0; i < 2 << 20; ++i) describe.mutable_stream()->mutable_recipe()->add_families();
  EXPECT_ERROR(client_->Describe(describe).status(), absl::StatusCode::kResourceExhausted,
               HasSubstr("a DescribeRequest may have at most 2097152"));
  v1::StreamRequest request;
  request.mutable_stream()->set_recipe_json(std::string(3 << 20, ' '));
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kResourceExhausted, HasSubstr("at most 2097152"));
}

}  // namespace
}  // namespace iterand
