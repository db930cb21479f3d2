// What the server's tests share: recipes, a server on a free port, and bytes of a stream served and in-process.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "clients/cpp/rpc_client.h"
#include "common/rpc/error_info.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"
#include "iterate/stream.h"
#include "server/server.h"

namespace iterand {

// Cheap: noise, 8 lanes, segments of 6 sequences of 64 bytes.
inline constexpr char kCheapRecipe[] = R"({"families": [{"uniform": {}}], "length": 64, "lanes": 8,
                                           "segment_sequences": 6})";

// Costs several hundred times more per token, has chains and a filter.
inline constexpr char kNetworkRecipe[] =
    R"({"families": [{"lstm": {"hidden": {"fixed": 32}}}], "length": 128, "lanes": 4,
                                             "segment_sequences": 20, "relabel": "RELABEL_SEQUENCE", "distinct": true})";

// One segment takes seconds, in rounds of a few milliseconds.
inline constexpr char kSlowRecipe[] = R"({"families": [{"lstm": {"hidden": {"fixed": 32}}}], "length": 128, "lanes": 4,
                                          "segment_sequences": 65536})";

// An endless pool: each segment needs the one before.
inline constexpr char kEndlessRecipe[] =
    R"({"families": [{"lstm": {"hidden": {"fixed": 16}}}], "length": 32, "lanes": 1,
                                             "segment_sequences": 16, "pool": {"pool_rows": 64, "program_rows": 16,
                                             "constant_rows": 2, "noise_rows": 2, "endless": true}})";

inline v1::Recipe RecipeOf(const std::string& json) {
  absl::StatusOr<v1::Recipe> recipe = ParseRecipeJson(json);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  return recipe.ok() ? *recipe : v1::Recipe();
}

inline v1::StreamSpec SpecOf(const std::string& json, std::uint64_t seed = 0) {
  v1::StreamSpec spec;
  spec.set_recipe_json(json);
  spec.set_seed(seed);
  return spec;
}

inline v1::StreamSpec PresetSpec(const std::string& preset, std::uint64_t seed = 0) {
  v1::StreamSpec spec;
  spec.set_preset(preset);
  spec.set_seed(seed);
  return spec;
}

inline std::unique_ptr<Server> StartServer(ServerOptions options = {}) {
  options.listen = "127.0.0.1:0";
  if (options.threads == 0) options.threads = 2;
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

// Each call is tried once, so that a test sees how it ends.
inline std::unique_ptr<RpcClient> Connect(const Server& server, ClientOptions options = {}) {
  options.retry.attempts = 0;
  absl::StatusOr<std::unique_ptr<RpcClient>> client = RpcClient::Connect(server.address(), options);
  EXPECT_TRUE(client.ok()) << client.status();
  return client.ok() ? *std::move(client) : nullptr;
}

// The tokens of a whole stream.
inline absl::StatusOr<std::string> Served(RpcClient& client, const v1::StreamRequest& request) {
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client.Stream(request);
  if (!reader.ok()) return reader.status();
  std::string bytes;
  Batch batch;
  while ((*reader)->Next(batch)) {
    const std::size_t before = bytes.size();
    bytes.resize(before + batch.token_bytes());
    batch.CopyTo(std::as_writable_bytes(std::span(bytes)).subspan(before));
  }
  if (!(*reader)->status().ok()) return (*reader)->status();
  return bytes;
}

inline std::string InProcess(const v1::Recipe& recipe, std::uint64_t seed, std::uint64_t first, std::uint64_t stride,
                             int rows) {
  const absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(recipe, seed);
  EXPECT_TRUE(stream.ok()) << stream.status();
  if (!stream.ok()) return "";
  std::string bytes(static_cast<std::size_t>(rows) * (*stream)->sequence_bytes(), '\0');
  const absl::Status status =
      (*stream)->Read({.first_index = first, .stride = stride, .rows = rows}, std::as_writable_bytes(std::span(bytes)));
  EXPECT_TRUE(status.ok()) << status;
  return bytes;
}

inline bool WaitUntil(const std::function<bool()>& condition, std::chrono::seconds limit = std::chrono::seconds(60)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// A server on a free port and a client of it.
class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override { Restart({}); }

  void Restart(const ServerOptions& options) {
    client_ = nullptr;
    server_ = nullptr;
    server_ = StartServer(options);
    client_ = Connect(*server_);
  }

  // The error of a stream's first batch.
  absl::Status StreamError(const v1::StreamRequest& request) {
    absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(request);
    Batch batch;
    if ((*reader)->Next(batch)) return absl::OkStatus();
    const absl::Status& status = (*reader)->status();
    // Every refusal also has a reason for programs.
    if (!status.ok() && !absl::IsUnavailable(status)) {
      EXPECT_NE(ReasonOf(status), v1::ERROR_REASON_UNSPECIFIED) << status;
    }
    return status;
  }

  static v1::StreamRequest Cheap() {
    v1::StreamRequest request;
    *request.mutable_stream() = SpecOf(kCheapRecipe);
    return request;
  }

  std::unique_ptr<Server> server_;
  std::unique_ptr<RpcClient> client_;
};

}  // namespace iterand

#define EXPECT_ERROR(expression, error, matcher)                         \
  do {                                                                   \
    const absl::Status& expect_error_status = (expression);              \
    EXPECT_EQ(expect_error_status.code(), error) << expect_error_status; \
    EXPECT_THAT(std::string(expect_error_status.message()), matcher);    \
  } while (false)
