// iterand/client.h: the client that C++ projects use. Its connections, retries and failover are those of RpcClient,
// whose tests are failover_test.cc and those of the server.
#include "iterand/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "iterand/stream.h"
#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kRecipe[] = R"({"families": [{"markov": {}}, {"automaton": {}}], "vocab_size": 1000, "length": 32,
                               "lanes": 4, "segment_sequences": 6, "relabel": "RELABEL_SEQUENCE"})";

void ExpectError(const absl::Status& status, absl::StatusCode code, const std::string& part) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(part));
}

std::string Local(const StreamSpec& spec, const IndexRange& range) {
  absl::StatusOr<LocalStream> stream = LocalStream::Open(spec);
  EXPECT_TRUE(stream.ok()) << stream.status();
  std::string bytes(static_cast<std::size_t>(range.rows) * stream->info().sequence_bytes(), '\0');
  const absl::Status status = stream->Read(range, std::as_writable_bytes(std::span(bytes)));
  EXPECT_TRUE(status.ok()) << status;
  return bytes;
}

class PublicClient : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(server_.address());
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  // All tokens of a stream that ends.
  std::string Tokens(const StreamOptions& options) {
    absl::StatusOr<std::unique_ptr<RemoteStream>> stream = client_->Stream(options);
    EXPECT_TRUE(stream.ok()) << stream.status();
    std::string bytes;
    for (Batch batch; (*stream)->Next(batch);) {
      bytes.append(reinterpret_cast<const char*>(batch.tokens().data()), batch.token_bytes());
    }
    EXPECT_TRUE((*stream)->status().ok()) << (*stream)->status();
    return bytes;
  }

  absl::Status FirstError(const StreamOptions& options) {
    absl::StatusOr<std::unique_ptr<RemoteStream>> stream = client_->Stream(options);
    if (!stream.ok()) return stream.status();
    Batch batch;
    EXPECT_FALSE((*stream)->Next(batch));
    return (*stream)->status();
  }

  RunningServer server_;
  std::unique_ptr<Client> client_;
};

TEST_F(PublicClient, EveryOptionOfAStreamCounts) {
  const ScratchFolder scratch;
  WriteWholeFile(scratch.File("recipe.json"), kRecipe);
  for (const std::string& recipe : {std::string(kRecipe), scratch.File("recipe.json")}) {
    EXPECT_EQ(Tokens({.recipe = recipe, .seed = 3, .count = 100, .batch_size = 7}),
              Local({.recipe = recipe, .seed = 3}, {.rows = 100}));
  }
  EXPECT_EQ(Tokens({.recipe = "markov", .length = 48, .start = 1000, .count = 70, .prefetch = 0}),
            Local({.recipe = "markov", .length = 48}, {.first_index = 1000, .rows = 70}));
  // The first index at or after 10 that is 3 modulo 4 is 11.
  EXPECT_EQ(Tokens({.recipe = kRecipe, .rank = 3, .world_size = 4, .start = 10, .count = 20, .batch_size = 6}),
            Local({.recipe = kRecipe}, {.first_index = 11, .stride = 4, .rows = 20}));
}

TEST_F(PublicClient, BatchesDescribeTheirRows) {
  absl::StatusOr<std::unique_ptr<RemoteStream>> stream = client_->Stream({.recipe = kRecipe,
                                                                          .loss_mask = true,
                                                                          .rank = 1,
                                                                          .world_size = 2,
                                                                          .start = 6,
                                                                          .batch_size = 5,
                                                                          .provenance = true});
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_EQ((*stream)->next_index(), 6U);
  Batch batch;
  ASSERT_TRUE((*stream)->Next(batch)) << (*stream)->status();
  EXPECT_EQ(batch.first_index(), 7U);
  EXPECT_EQ(batch.stride(), 2U);
  EXPECT_EQ(batch.rows(), 5);
  EXPECT_EQ(batch.length(), 32);
  EXPECT_EQ(batch.dtype(), Dtype::kUint16);
  EXPECT_EQ(batch.token_bytes(), 5U * 32 * 2);
  EXPECT_EQ(batch.loss_mask().size(), 5U * 32);
  ASSERT_EQ(batch.provenance().size(), 5U);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(batch.provenance()[i].lane, (7 + 2 * i) % 4);
  EXPECT_EQ((*stream)->next_index(), 17U);
  EXPECT_EQ(batch.fingerprint(), LocalStream::Open({.recipe = kRecipe, .loss_mask = true})->info().fingerprint);
}

TEST_F(PublicClient, AStreamResumesAtItsIndexOnAnotherServer) {
  RunningServer other;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::ConnectToAny({server_.address(), other.address()});
  ASSERT_TRUE(client.ok()) << client.status();
  absl::StatusOr<std::unique_ptr<RemoteStream>> stream = (*client)->Stream({.recipe = "markov", .count = 2000});
  ASSERT_TRUE(stream.ok()) << stream.status();
  std::string bytes;
  Batch batch;
  for (int batches = 0; (*stream)->Next(batch); ++batches) {
    bytes.append(reinterpret_cast<const char*>(batch.tokens().data()), batch.token_bytes());
    if (batches == 2) server_.process().Signal(SIGKILL);
  }
  ASSERT_TRUE((*stream)->status().ok()) << (*stream)->status();
  EXPECT_TRUE(bytes == Local({.recipe = "markov"}, {.rows = 2000}));

  // Another client continues from an index that was saved.
  StreamOptions rest{.recipe = "markov", .expected_fingerprint = batch.fingerprint(), .start = 1500, .count = 500};
  absl::StatusOr<std::unique_ptr<Client>> second = Client::Connect(other.address());
  ASSERT_TRUE(second.ok()) << second.status();
  client_ = *std::move(second);
  EXPECT_TRUE(Tokens(rest) == Local({.recipe = "markov"}, {.first_index = 1500, .rows = 500}));
  rest.seed = 1;
  ExpectError(FirstError(rest), absl::StatusCode::kFailedPrecondition, "expected_fingerprint");
}

TEST_F(PublicClient, ReadsAnyIndices) {
  const absl::StatusOr<Batch> batch =
      client_->Read({.recipe = kRecipe, .seed = 2}, {.first_index = 1'000'000, .stride = 7, .rows = 9}, true);
  ASSERT_TRUE(batch.ok()) << batch.status();
  const std::string expected =
      Local({.recipe = kRecipe, .seed = 2}, {.first_index = 1'000'000, .stride = 7, .rows = 9});
  std::string bytes(batch->token_bytes(), '\0');
  batch->CopyTo(std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, expected);
  EXPECT_EQ(batch->provenance().size(), 9U);
  ExpectError(client_->Read({.recipe = kRecipe}, {.rows = 0}).status(), absl::StatusCode::kInvalidArgument,
              "rows: is 0");
}

TEST_F(PublicClient, DescribesAStreamAsItIsHere) {
  const StreamSpec spec{.recipe = kRecipe, .seed = 4, .length = 48, .loss_mask = true};
  const absl::StatusOr<StreamInfo> remote = client_->Describe(spec);
  ASSERT_TRUE(remote.ok()) << remote.status();
  const absl::StatusOr<LocalStream> stream = LocalStream::Open(spec);
  ASSERT_TRUE(stream.ok()) << stream.status();
  const StreamInfo& local = stream->info();
  EXPECT_EQ(remote->fingerprint, local.fingerprint);
  EXPECT_EQ(remote->engine_version, local.engine_version);
  EXPECT_EQ(remote->seed, local.seed);
  EXPECT_EQ(remote->recipe_json, local.recipe_json);
  EXPECT_EQ(remote->dtype, local.dtype);
  EXPECT_EQ(remote->length, local.length);
  EXPECT_EQ(remote->vocab_size, local.vocab_size);
  EXPECT_EQ(remote->loss_mask, local.loss_mask);
  EXPECT_EQ(remote->lanes, local.lanes);
  EXPECT_EQ(remote->segment_sequences, local.segment_sequences);
  EXPECT_EQ(remote->flops_per_token, local.flops_per_token);
}

TEST_F(PublicClient, RefusalsNameTheOption) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  ExpectError(FirstError({.rank = 2, .world_size = 2}), kInvalid, "rank: is 2, must be below world_size, which is 2");
  ExpectError(FirstError({.world_size = 0}), kInvalid, "world_size: is 0");
  ExpectError(FirstError({.world_size = 3}), kInvalid, "world_size");
  ExpectError(FirstError({.batch_size = 0}), kInvalid, "batch_size is 0");
  ExpectError(FirstError({.prefetch = -1}), kInvalid, "prefetch: is -1");
  ExpectError(FirstError({.expected_fingerprint = "1234"}), kInvalid, "64 hexadecimal digits");
  ExpectError(FirstError({.recipe = "markvo"}), absl::StatusCode::kNotFound, "did you mean markov?");
  ExpectError(FirstError({.recipe = "/no/such.json"}), absl::StatusCode::kNotFound, "/no/such.json");
  const ScratchFolder scratch;
  const std::string file = scratch.File("bad.json");
  WriteWholeFile(file, R"({"families": [{"lstn": {}}]})");
  ExpectError(FirstError({.recipe = file}), kInvalid, file + ": families[0]");
  ExpectError(client_->Describe({.recipe = file}).status(), kInvalid, file + ": families[0]");
  ExpectError(client_->Read({.recipe = file}, {}).status(), kInvalid, file + ": families[0]");
}

TEST_F(PublicClient, ErrorsHaveReasons) {
  const absl::Status unknown = FirstError({.recipe = "markvo"});
  const auto unknown_info = ErrorInfoOf(unknown);
  ASSERT_TRUE(unknown_info.has_value()) << unknown;
  EXPECT_EQ(unknown_info->reason, "UNKNOWN_PRESET");
  EXPECT_EQ(unknown_info->metadata, (std::map<std::string, std::string>{{"preset", "markvo"}}));
  EXPECT_FALSE(ErrorInfoOf(absl::NotFoundError("none")));

  // An error names the recipe's file only if the recipe is to blame.
  const ScratchFolder scratch;
  const std::string file = scratch.File("recipe.json");
  WriteWholeFile(file, kRecipe);
  const absl::Status world_size = FirstError({.recipe = file, .world_size = 3});
  const auto world_size_info = ErrorInfoOf(world_size);
  ASSERT_TRUE(world_size_info.has_value()) << world_size;
  EXPECT_EQ(world_size_info->reason, "INVALID_REQUEST");
  EXPECT_EQ(world_size_info->metadata, (std::map<std::string, std::string>{{"field", "shard.world_size"}}));
  EXPECT_THAT(std::string(world_size.message()), Not(HasSubstr(file)));
  WriteWholeFile(file, R"({"families": [{"lstn": {}}]})");
  const absl::Status faulty = FirstError({.recipe = file});
  const auto faulty_info = ErrorInfoOf(faulty);
  ASSERT_TRUE(faulty_info.has_value()) << faulty;
  EXPECT_EQ(faulty_info->reason, "INVALID_RECIPE");
  EXPECT_THAT(std::string(faulty.message()), HasSubstr(file));
}

TEST_F(PublicClient, RunsPrograms) {
  std::vector<ExecuteResult> results;
  const auto collect = [&](ExecuteResult result) {
    results.push_back(std::move(result));
    return true;
  };
  const absl::Status status = client_->Execute(
      {{.text = "+.+."}, {.text = "+[.+]"}, {.text = "+[]"}, {.text = ",.", .input = "Z"}, {.text = ",.", .seed = 1}},
      {.max_steps = 1000, .max_output = 8}, collect);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(results.size(), 5U);
  for (std::size_t i = 0; i < results.size(); ++i) EXPECT_EQ(results[i].program, i);
  EXPECT_EQ(results[0].output, "\x01\x02");
  EXPECT_EQ(results[0].steps, 4U);
  EXPECT_EQ(results[0].halt, ExecuteResult::Halt::kEnded);
  EXPECT_EQ(results[1].output, "\x01\x02\x03\x04\x05\x06\x07\x08");
  EXPECT_EQ(results[1].halt, ExecuteResult::Halt::kOutputLimit);
  EXPECT_EQ(results[2].halt, ExecuteResult::Halt::kStepLimit);
  EXPECT_EQ(results[2].steps, 1000U);
  EXPECT_EQ(results[3].output, "Z");
  EXPECT_EQ(results[4].output.size(), 1U);

  ExpectError(client_->Execute({{.text = "+"}, {.text = "."}}, {}, [](const ExecuteResult&) { return false; }),
              absl::StatusCode::kCancelled, "cancelled");
  ExpectError(client_->Execute({{.text = ",", .input = "a", .seed = 1}}, {}, collect),
              absl::StatusCode::kInvalidArgument, "programs[0]: has an input and a seed");
  ExpectError(client_->Execute({{.text = "]"}}, {}, collect), absl::StatusCode::kInvalidArgument, "programs[0]");
}

}  // namespace
}  // namespace iterand::testing
