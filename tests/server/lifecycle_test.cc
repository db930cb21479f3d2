// Clients that vanish or are slow, limits, and a server that stops.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterand/v1/noise_service.grpc.pb.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Lifecycle = ServiceTest;

// ---- Clients that vanish or are slow --------------------------------------------------------------------------------

TEST_F(Lifecycle, CancelledStreamFreesTheEngine) {
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kSlowRecipe);
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(request);
  ASSERT_TRUE(WaitUntil([&] { return server_->stats().segments_running == 2; }));
  EXPECT_GT(server_->stats().segments_queued, 0);
  (*reader)->Cancel();
  Batch batch;
  EXPECT_FALSE((*reader)->Next(batch));
  EXPECT_EQ((*reader)->status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().segments_running == 0; }, std::chrono::seconds(5)));
  EXPECT_EQ(server_->stats().segments_queued, 0);
  EXPECT_EQ(server_->stats().held_bytes, 0U);
  EXPECT_EQ(server_->stats().segments_generated, 0U);
}

TEST_F(Lifecycle, ADestroyedReaderCancels) {
  v1::StreamRequest request = Cheap();
  {
    absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(request);
    Batch batch;
    ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the reader is full
  }
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
  EXPECT_EQ(server_->stats().held_bytes, 0U);
}

TEST_F(Lifecycle, DeadlineOfAReadFreesTheEngine) {
  const std::unique_ptr<v1::NoiseService::Stub> stub =
      v1::NoiseService::NewStub(grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  v1::ReadRequest request;
  *request.mutable_stream() = SpecOf(kSlowRecipe);
  request.set_rows(4);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  v1::Batch batch;
  EXPECT_EQ(stub->Read(&context, request, &batch).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().segments_running + server_->stats().segments_queued == 0; },
                        std::chrono::seconds(5)));
}

TEST_F(Lifecycle, SlowClientHoldsBoundedMemoryAndSlowsNobody) {
  ServerOptions options;
  options.cache_bytes = 0;
  options.readahead_bytes = 1 << 20;
  options.max_stream_bytes = 2 << 20;
  Restart(options);
  v1::StreamRequest request = Cheap();
  request.mutable_stream()->set_length(4096);
  request.set_batch_size(256);  // 1 MiB
  absl::StatusOr<std::unique_ptr<RemoteStream>> slow = client_->Stream(request);
  Batch batch;
  ASSERT_TRUE((*slow)->Next(batch)) << (*slow)->status();
  // It stops reading: the pipes fill, then nothing more is made.
  std::uint64_t generated = 0;
  ASSERT_TRUE(WaitUntil([&] {
    const std::uint64_t before = std::exchange(generated, server_->stats().segments_generated);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return before == generated && server_->stats().segments_queued == 0;
  }));
  EXPECT_LE(server_->stats().held_bytes, options.max_stream_bytes);
  EXPECT_LT(server_->stats().batch_bytes, 64U << 20);

  // Another stream runs meanwhile, on a connection of its own.
  const std::unique_ptr<RpcClient> other = Connect(*server_);
  request.mutable_stream()->set_seed(1);
  request.set_count(100 * 256);
  const absl::StatusOr<std::string> served = Served(*other, request);
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_EQ(served->size(), std::size_t{100} << 20);
  EXPECT_LE(server_->stats().largest_held_bytes, options.max_stream_bytes);

  // And the slow one continues where it was.
  const std::uint64_t next = (*slow)->next_index();
  ASSERT_TRUE((*slow)->Next(batch)) << (*slow)->status();
  EXPECT_EQ(batch.first_index(), next);
}

TEST_F(Lifecycle, EqualStreamsGenerateOnce) {
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kNetworkRecipe);  // 4 lanes, segments of 20
  request.set_count(400);
  std::vector<absl::StatusOr<std::string>> served(2);
  std::vector<std::thread> threads;
  threads.reserve(served.size());
  for (absl::StatusOr<std::string>& bytes : served) {
    threads.emplace_back([&] { bytes = Served(*Connect(*server_), request); });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(served[0].ok() && served[1].ok());
  EXPECT_TRUE(*served[0] == *served[1]);
  EXPECT_EQ(server_->stats().segments_generated, 20U);
}

TEST_F(Lifecycle, TooManyStreams) {
  ServerOptions options;
  options.max_streams = 2;
  Restart(options);
  std::vector<std::unique_ptr<RemoteStream>> readers;
  Batch batch;
  for (int i = 0; i < 2; ++i) {
    readers.push_back(*client_->Stream(Cheap()));
    ASSERT_TRUE(readers.back()->Next(batch)) << readers.back()->status();
  }
  EXPECT_ERROR(StreamError(Cheap()), absl::StatusCode::kUnavailable,
               AllOf(HasSubstr("2 calls"), HasSubstr("another server")));
  readers.pop_back();
  EXPECT_TRUE(WaitUntil([&] { return StreamError(Cheap()).ok(); }, std::chrono::seconds(5)));
}

TEST_F(Lifecycle, RecipeOverTheQueueLimit) {
  ServerOptions options;
  options.max_stream_bytes = 1 << 20;
  Restart(options);
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(R"({"families": [{"uniform": {}}], "length": 4096, "lanes": 32,
                                         "segment_sequences": 16})");
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kResourceExhausted,
               HasSubstr("1048576 bytes per stream (--max-stream-bytes)"));
  options.max_stream_bytes = (1 << 20) - 1;
  options.listen = "127.0.0.1:0";
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument, HasSubstr("at least 1048576"));
}

// ---- Stopping -------------------------------------------------------------------------------------------------------

TEST_F(Lifecycle, StoppedMidStreamNamesTheIndexToResumeFrom) {
  v1::StreamRequest request = Cheap();
  request.set_batch_size(7);
  request.mutable_shard()->set_world_size(2);
  request.mutable_shard()->set_rank(1);
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(request);
  Batch batch;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();
  std::thread stop([&] { server_->Shutdown(std::chrono::seconds(20)); });
  while ((*reader)->Next(batch)) {
  }
  stop.join();
  EXPECT_ERROR((*reader)->status(), absl::StatusCode::kUnavailable,
               HasSubstr(absl::StrCat("resume from index ", (*reader)->next_index())));
  const std::uint64_t next = (*reader)->next_index();
  EXPECT_EQ(next % 2, 1U);

  Restart({});
  request.set_start(next);
  request.set_count(50);
  const absl::StatusOr<std::string> served = Served(*client_, request);
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_TRUE(*served == InProcess(RecipeOf(kCheapRecipe), 0, next, 2, 50));
}

TEST_F(Lifecycle, StoppingDoesNotWaitForAClientThatDoesNotRead) {
  v1::StreamRequest request = Cheap();
  request.mutable_stream()->set_length(4096);
  request.set_batch_size(256);
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(request);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto start = std::chrono::steady_clock::now();
  server_->Shutdown(std::chrono::milliseconds(200));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(Lifecycle, AnAddressFileOfAnotherServerStays) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.address_file = testing::TempDir() + "/iterand_taken_over_" + std::to_string(getpid());
  auto old = Server::Start(options);
  ASSERT_TRUE(old.ok()) << old.status();
  auto fresh = Server::Start(options);
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  (*old)->Shutdown(std::chrono::seconds(0));
  std::string address;
  std::ifstream(options.address_file) >> address;
  EXPECT_EQ(address, (*fresh)->address());
  (*fresh)->Shutdown(std::chrono::seconds(0));
  EXPECT_FALSE(std::ifstream(options.address_file).good());
}

TEST_F(Lifecycle, AddressInUse) {
  ServerOptions options;
  options.listen = server_->address();
  const auto second = Server::Start(options);
  EXPECT_ERROR(second.status(), absl::StatusCode::kUnavailable,
               AllOf(HasSubstr(server_->address()), HasSubstr("in use")));
  options.listen = "127.0.0.1:0";
  options.metrics_listen = server_->address();
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kUnavailable, HasSubstr("metrics"));
}

TEST_F(Lifecycle, BadOptions) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.tls_cert_file = "/nowhere/cert.pem";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.tls_key_file = "/nowhere/key.pem";
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kNotFound, HasSubstr("/nowhere/cert.pem"));
  options = {};
  options.listen = "127.0.0.1:0";
  options.max_streams = 0;
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument, HasSubstr("--max-streams"));
  options = {};
  options.request_timeout = std::chrono::milliseconds(0);
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument,
               HasSubstr("request_timeout (--request-timeout) is 0 ms; it must be 1 ms to 1 hour"));
  options = {};
  options.listen = "127.0.0.1:0";
  options.max_batch_bytes = 1;
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument,
               HasSubstr("(--max-batch-bytes) is 1;"));
  options = {};
  options.log_level = "loud";
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument,
               HasSubstr("\"loud\"; it must be one of debug, info, error, off"));
  options = {};
  options.snapshot_dir = "/proc/version";
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument,
               HasSubstr("(--snapshot-dir) /proc/version: "));
  options = {};
  options.listen = "no such host:0";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kUnavailable);
  // gRPC would take port 443 for the first, port 34 464 for the second.
  for (const char* wrong : {"127.0.0.1", "127.0.0.1:100000", "127.0.0.1:", "127.0.0.1:-1", "::1", "::1:0", ":0", "",
                            "127.0.0.1:http", "unix:"}) {
    options.listen = wrong;
    EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument, HasSubstr("listen"));
  }
}

TEST_F(Lifecycle, AUnixSocketInUse) {
  const std::string path = absl::StrCat(testing::TempDir(), "iterand-", getpid(), ".sock");
  ServerOptions options;
  options.listen = "unix:" + path;
  {
    const auto first = Server::Start(options);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kUnavailable,
                 AllOf(HasSubstr(path), HasSubstr("listening there")));
    EXPECT_TRUE(RpcClient::Connect(options.listen).ok());
  }
  // A socket that a killed server has left behind is replaced.
  const int left = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_GE(left, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(left, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  close(left);
  EXPECT_TRUE(Server::Start(options).ok());
}

TEST_F(Lifecycle, AFileInPlaceOfAUnixSocketStays) {
  const std::string path = absl::StrCat(testing::TempDir(), "iterand-", getpid(), ".txt");
  std::ofstream(path) << "mine\n";
  ServerOptions options;
  options.listen = "unix:" + path;
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr(path), HasSubstr("must be free or a socket")));
  std::string text;
  std::ifstream(path) >> text;
  EXPECT_EQ(text, "mine");
  std::remove(path.c_str());
}

TEST(ClientTest, NobodyAnswers) {
  ClientOptions options;
  options.connect_timeout = std::chrono::milliseconds(200);
  const auto client = RpcClient::Connect("127.0.0.1:1", options);
  EXPECT_ERROR(client.status(), absl::StatusCode::kUnavailable, HasSubstr("127.0.0.1:1"));
}

TEST(ClientTest, RefusesWhatGrpcWouldMisread) {
  for (const char* wrong : {"", "localhost", "http://localhost:50051"}) {
    EXPECT_ERROR(RpcClient::Connect(wrong).status(), absl::StatusCode::kInvalidArgument, HasSubstr("host:port"));
  }
  // gRPC would abort the process for metadata that it cannot send.
  for (const char* wrong : {"two\nlines", "S\xc3\xa9same", "tab\t"}) {
    ClientOptions options;
    options.token = wrong;
    EXPECT_ERROR(RpcClient::Connect("127.0.0.1:1", options).status(), absl::StatusCode::kInvalidArgument,
                 HasSubstr("printable ASCII"));
  }
}

}  // namespace
}  // namespace iterand
