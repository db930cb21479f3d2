// The service as clients meet it: errors, limits, slow and vanishing clients, stopping, health, reflection, metrics, TLS,
// tokens.
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "absl/strings/str_cat.h"
#include "iterand/v1/noise_service.grpc.pb.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Service : public testing::Test {
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
    absl::StatusOr<std::unique_ptr<BatchReader>> reader = client_->Stream(request);
    Batch batch;
    const absl::StatusOr<bool> more = (*reader)->Next(batch);
    return more.ok() ? absl::OkStatus() : more.status();
  }

  static v1::StreamRequest Cheap() {
    v1::StreamRequest request;
    *request.mutable_stream() = SpecOf(kCheapRecipe);
    return request;
  }

  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
};

#define EXPECT_ERROR(expression, error, matcher)                             \
  do {                                                                       \
    const absl::Status expect_error_status = (expression);                   \
    EXPECT_EQ(expect_error_status.code(), error) << expect_error_status;     \
    EXPECT_THAT(std::string(expect_error_status.message()), matcher);        \
  } while (false)

// ---- Bad requests. -----------------------------------------------------------------------------------------------------

TEST_F(Service, NoRecipe) {
  EXPECT_ERROR(StreamError({}), absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("no recipe"), HasSubstr("preset")));
}

TEST_F(Service, UnknownPreset) {
  v1::StreamRequest request;
  *request.mutable_stream() = PresetSpec("nope");
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kNotFound, AllOf(HasSubstr("nope"), HasSubstr("uniform")));
}

TEST_F(Service, BrokenJson) {
  v1::StreamRequest request;
  request.mutable_stream()->set_recipe_json("{\"families\": [");
  EXPECT_EQ(StreamError(request).code(), absl::StatusCode::kInvalidArgument);
  request.mutable_stream()->set_recipe_json(R"({"familys": []})");
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, HasSubstr("familys"));
}

TEST_F(Service, ImpossibleValue) {
  v1::StreamRequest request = Cheap();
  request.mutable_stream()->set_length(3);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("length"), HasSubstr("3")));
}

TEST_F(Service, EmptyRecipe) {
  v1::StreamRequest request;
  request.mutable_stream()->mutable_recipe();
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, HasSubstr("families"));
}

TEST_F(Service, BadShards) {
  v1::StreamRequest request = Cheap();  // 8 lanes
  request.mutable_shard()->set_world(4);
  request.mutable_shard()->set_rank(4);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("shard.rank is 4"), HasSubstr("0 to 3")));
  request.mutable_shard()->set_rank(0);
  for (const auto& [world, nearest] : {std::pair{3U, "2 and 4"}, {5U, "4 and 8"}, {7U, "4 and 8"}, {9U, ": 8 ("}}) {
    request.mutable_shard()->set_world(world);
    EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr(absl::StrCat("shard.world is ", world)), HasSubstr("8 lanes"), HasSubstr(nearest)));
  }
  // An absurd world costs no time.
  request.mutable_shard()->set_world(4'000'000'001U);
  EXPECT_EQ(StreamError(request).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Service, BadRows) {
  v1::StreamRequest request = Cheap();
  request.set_batch_rows(0);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, HasSubstr("batch_rows is 0"));
  request.set_batch_rows(1'000'000);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("batch_rows is 1000000"), HasSubstr("4194304")));
  v1::ReadRequest read;
  *read.mutable_stream() = SpecOf(kCheapRecipe);
  EXPECT_ERROR(client_->Read(read).status(), absl::StatusCode::kInvalidArgument, HasSubstr("rows is 0"));
  read.set_rows(1'000'000);
  EXPECT_ERROR(client_->Read(read).status(), absl::StatusCode::kInvalidArgument, HasSubstr("rows is 1000000"));
  read.set_rows(1);
  read.set_stride(0);
  EXPECT_ERROR(client_->Read(read).status(), absl::StatusCode::kInvalidArgument, HasSubstr("stride is 0"));
}

// The largest batch that the server allows is one that a client with gRPC's defaults receives.
TEST_F(Service, LargestBatchArrivesByDefault) {
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

TEST_F(Service, BeyondTheLastIndex) {
  v1::StreamRequest request = Cheap();
  request.set_start(~std::uint64_t{0} - 3);
  request.set_count(5);
  EXPECT_EQ(StreamError(request).code(), absl::StatusCode::kOutOfRange);
  request.clear_count();
  request.mutable_shard()->set_world(8);
  request.mutable_shard()->set_rank(0);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kOutOfRange, HasSubstr("shard 0 of 8"));
}

TEST_F(Service, CountZeroEndsAtOnce) {
  v1::StreamRequest request = Cheap();
  request.set_count(0);
  EXPECT_EQ(*Served(*client_, request), "");
}

TEST_F(Service, ExpectedFingerprint) {
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

TEST_F(Service, StarvingFilterEndsTheStream) {
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(R"({"families": [{"constant": {}}], "length": 64, "lanes": 2,
      "segment_sequences": 8, "band": {"low": 0.5, "high": 1}, "starvation_rounds": 5})");
  EXPECT_EQ(StreamError(request).code(), absl::StatusCode::kFailedPrecondition);
}

// ---- Describe. ---------------------------------------------------------------------------------------------------------

TEST_F(Service, Describe) {
  const absl::StatusOr<v1::DescribeResponse> all = client_->Describe({});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->engine_version(), kEngineVersion);
  EXPECT_EQ(static_cast<std::size_t>(all->presets_size()), AllPresets().size());
  EXPECT_GT(all->families_size(), 0);
  EXPECT_FALSE(all->has_stream());
  for (const v1::FamilyInfo& family : all->families()) {
    if (family.name() == "lstm") EXPECT_TRUE(family.reads_input());
    if (family.name() == "uniform") EXPECT_FALSE(family.reads_input());
  }

  v1::DescribeRequest request;
  *request.mutable_stream() = PresetSpec("up", 7);
  const absl::StatusOr<v1::DescribeResponse> up = client_->Describe(request);
  ASSERT_TRUE(up.ok()) << up.status();
  const std::shared_ptr<Stream> stream = *Stream::Open(*LoadPreset("up"), 7);
  EXPECT_EQ(up->stream().seed(), 7U);
  EXPECT_EQ(up->stream().fingerprint(),
            std::string(stream->fingerprint().begin(), stream->fingerprint().end()));
  EXPECT_EQ(up->stream().recipe().SerializeAsString(), stream->recipe().SerializeAsString());
  EXPECT_EQ(ParseRecipeJson(up->stream().recipe_json())->SerializeAsString(), stream->recipe().SerializeAsString());
  EXPECT_EQ(up->stream().dtype(), v1::DTYPE_UINT8);
  EXPECT_GT(up->stream().cost().flops_per_token(), 0);
  EXPECT_GT(up->stream().cost().segment_bytes(), 0U);

  *request.mutable_stream() = PresetSpec("nope");
  EXPECT_EQ(client_->Describe(request).status().code(), absl::StatusCode::kNotFound);
}

// ---- Clients that vanish or are slow. ----------------------------------------------------------------------------------

TEST_F(Service, CancelledStreamFreesTheEngine) {
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kSlowRecipe);
  absl::StatusOr<std::unique_ptr<BatchReader>> reader = client_->Stream(request);
  ASSERT_TRUE(WaitUntil([&] { return server_->stats().segments_running == 2; }));
  EXPECT_GT(server_->stats().segments_queued, 0);
  (*reader)->Cancel();
  Batch batch;
  EXPECT_EQ((*reader)->Next(batch).status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().segments_running == 0; }, std::chrono::seconds(5)));
  EXPECT_EQ(server_->stats().segments_queued, 0);
  EXPECT_EQ(server_->stats().held_bytes, 0U);
  EXPECT_EQ(server_->stats().segments_generated, 0U);
}

TEST_F(Service, ADestroyedReaderCancels) {
  v1::StreamRequest request = Cheap();
  {
    absl::StatusOr<std::unique_ptr<BatchReader>> reader = client_->Stream(request);
    Batch batch;
    ASSERT_TRUE((*reader)->Next(batch).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the reader is full
  }
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
  EXPECT_EQ(server_->stats().held_bytes, 0U);
}

TEST_F(Service, DeadlineOfAReadFreesTheEngine) {
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

TEST_F(Service, SlowClientHoldsBoundedMemoryAndSlowsNobody) {
  ServerOptions options;
  options.cache_bytes = 0;
  options.prefetch_bytes = 1 << 20;
  options.queue_bytes = 2 << 20;
  Restart(options);
  v1::StreamRequest request = Cheap();
  request.mutable_stream()->set_length(4096);
  request.set_batch_rows(256);  // 1 MiB
  absl::StatusOr<std::unique_ptr<BatchReader>> slow = client_->Stream(request);
  Batch batch;
  ASSERT_TRUE((*slow)->Next(batch).ok());
  // It stops reading: the pipes fill, then nothing is made any more.
  std::uint64_t generated = 0;
  ASSERT_TRUE(WaitUntil([&] {
    const std::uint64_t before = std::exchange(generated, server_->stats().segments_generated);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return before == generated && server_->stats().segments_queued == 0;
  }));
  EXPECT_LE(server_->stats().held_bytes, options.queue_bytes);
  EXPECT_LT(server_->stats().batch_bytes, 64U << 20);

  // Another stream runs meanwhile, on a connection of its own.
  const std::unique_ptr<Client> other = Connect(*server_);
  request.mutable_stream()->set_seed(1);
  request.set_count(100 * 256);
  const absl::StatusOr<std::string> served = Served(*other, request);
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_EQ(served->size(), std::size_t{100} << 20);
  EXPECT_LE(server_->stats().largest_held_bytes, options.queue_bytes);

  // And the slow one goes on where it was.
  const std::uint64_t next = (*slow)->next_index();
  ASSERT_TRUE((*slow)->Next(batch).ok());
  EXPECT_EQ(batch.first_index(), next);
}

TEST_F(Service, EqualStreamsGenerateOnce) {
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kNetworkRecipe);  // 4 lanes, segments of 20
  request.set_count(400);
  std::vector<absl::StatusOr<std::string>> served(2);
  std::vector<std::thread> threads;
  for (absl::StatusOr<std::string>& bytes : served) {
    threads.emplace_back([&] { bytes = Served(*Connect(*server_), request); });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(served[0].ok() && served[1].ok());
  EXPECT_TRUE(*served[0] == *served[1]);
  EXPECT_EQ(server_->stats().segments_generated, 20U);
}

TEST_F(Service, TooManyStreams) {
  ServerOptions options;
  options.max_streams = 2;
  Restart(options);
  std::vector<std::unique_ptr<BatchReader>> readers;
  Batch batch;
  for (int i = 0; i < 2; ++i) {
    readers.push_back(*client_->Stream(Cheap()));
    ASSERT_TRUE(readers.back()->Next(batch).ok());
  }
  EXPECT_ERROR(StreamError(Cheap()), absl::StatusCode::kResourceExhausted, HasSubstr("2 calls"));
  readers.pop_back();
  EXPECT_TRUE(WaitUntil([&] { return StreamError(Cheap()).ok(); }, std::chrono::seconds(5)));
}

TEST_F(Service, RecipeOverTheQueueLimit) {
  ServerOptions options;
  options.queue_bytes = 1000;
  Restart(options);
  EXPECT_ERROR(StreamError(Cheap()), absl::StatusCode::kResourceExhausted, HasSubstr("1000 bytes a stream"));
}

// ---- Stopping. ---------------------------------------------------------------------------------------------------------

TEST_F(Service, StoppedMidStreamNamesTheIndexToResumeFrom) {
  v1::StreamRequest request = Cheap();
  request.set_batch_rows(7);
  request.mutable_shard()->set_world(2);
  request.mutable_shard()->set_rank(1);
  absl::StatusOr<std::unique_ptr<BatchReader>> reader = client_->Stream(request);
  Batch batch;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE((*reader)->Next(batch).ok());
  std::thread stop([&] { server_->Shutdown(std::chrono::seconds(20)); });
  absl::StatusOr<bool> more = true;
  while (more.ok() && *more) more = (*reader)->Next(batch);
  stop.join();
  EXPECT_ERROR(more.status(), absl::StatusCode::kUnavailable,
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

TEST_F(Service, StoppingDoesNotWaitForAClientThatDoesNotRead) {
  v1::StreamRequest request = Cheap();
  request.mutable_stream()->set_length(4096);
  request.set_batch_rows(256);
  absl::StatusOr<std::unique_ptr<BatchReader>> reader = client_->Stream(request);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto start = std::chrono::steady_clock::now();
  server_->Shutdown(std::chrono::milliseconds(200));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(Service, SignalDrainsAndReturns) {
  const std::string file = testing::TempDir() + "/iterand_address_" + std::to_string(getpid());
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.address_file = file;
  options.metrics_listen = "127.0.0.1:0";
  options.threads = 1;
  std::ostringstream out;
  absl::Status status = absl::UnknownError("still running");
  std::thread run([&] { status = RunUntilSignal(options, out); });
  std::string address;
  ASSERT_TRUE(WaitUntil([&] { return static_cast<bool>(std::ifstream(file) >> address); }));
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(address);
  ASSERT_TRUE(client.ok()) << client.status();
  absl::StatusOr<std::unique_ptr<BatchReader>> reader = (*client)->Stream(Cheap());
  Batch batch;
  ASSERT_TRUE((*reader)->Next(batch).ok());
  pthread_kill(run.native_handle(), SIGTERM);
  absl::StatusOr<bool> more = true;
  while (more.ok() && *more) more = (*reader)->Next(batch);
  EXPECT_ERROR(more.status(), absl::StatusCode::kUnavailable, HasSubstr("resume from index"));
  run.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(out.str(), AllOf(HasSubstr("listening on " + address + "\n"), HasSubstr("metrics on 127.0.0.1:")));
  EXPECT_FALSE(std::ifstream(file).good());  // gone with the server
}

TEST_F(Service, AddressInUse) {
  ServerOptions options;
  options.listen = server_->address();
  const auto second = Server::Start(options);
  EXPECT_ERROR(second.status(), absl::StatusCode::kUnavailable,
               AllOf(HasSubstr(server_->address()), HasSubstr("in use")));
  options.listen = "127.0.0.1:0";
  options.metrics_listen = server_->address();
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kUnavailable, HasSubstr("metrics"));
}

TEST_F(Service, BadOptions) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.tls_cert_file = "/nowhere/cert.pem";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.tls_key_file = "/nowhere/key.pem";
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kNotFound, HasSubstr("/nowhere/cert.pem"));
  options = {};
  options.listen = "127.0.0.1:0";
  options.max_streams = 0;
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = {};
  options.listen = "no such host:0";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kUnavailable);
}

TEST(ClientTest, NobodyAnswers) {
  ClientOptions options;
  options.connect_timeout = std::chrono::milliseconds(200);
  const auto client = Client::Connect("127.0.0.1:1", options);
  EXPECT_ERROR(client.status(), absl::StatusCode::kUnavailable, HasSubstr("127.0.0.1:1"));
}

// ---- Health, reflection, metrics. --------------------------------------------------------------------------------------

// A call by name with bytes, as a tool without our schema makes it.
std::string RawCall(const std::string& address, const std::string& method, const std::string& request) {
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, method, &queue);
  void* tag;
  bool ok;
  const auto wait = [&] { return queue.Next(&tag, &ok) && ok; };
  call->StartCall(nullptr);
  if (!wait()) return "no call";
  const grpc::Slice slice(request);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  if (!wait()) return "no write";
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  std::string bytes = wait() ? "" : "no answer";
  std::vector<grpc::Slice> slices;
  if (response.Valid() && response.Dump(&slices).ok()) {
    for (const grpc::Slice& s : slices) bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  wait();
  return bytes;
}

TEST_F(Service, Health) {
  // HealthCheckResponse {status: SERVING}
  EXPECT_EQ(RawCall(server_->address(), "/grpc.health.v1.Health/Check", ""), std::string("\x08\x01", 2));
}

TEST_F(Service, Reflection) {
  // ServerReflectionRequest {list_services: ""}
  const std::string services = RawCall(
      server_->address(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3a\x00", 2));
  EXPECT_THAT(services, AllOf(HasSubstr("iterand.v1.NoiseService"), HasSubstr("grpc.health.v1.Health")));
  // ServerReflectionRequest {file_containing_symbol: "iterand.v1.NoiseService"}
  const std::string symbol = "iterand.v1.NoiseService";
  const std::string file =
      RawCall(server_->address(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              absl::StrCat("\x22", std::string(1, static_cast<char>(symbol.size())), symbol));
  EXPECT_THAT(file, HasSubstr("iterand/v1/noise_service.proto"));
}

std::string HttpGet(const std::string& address, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  std::string response;
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) {
    const std::string request = absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    if (write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
      char buffer[4096];
      ssize_t size;
      while ((size = read(fd, buffer, sizeof(buffer))) > 0) response.append(buffer, static_cast<std::size_t>(size));
    }
  }
  close(fd);
  return response;
}

TEST_F(Service, Metrics) {
  EXPECT_EQ(server_->metrics_address(), "");
  ServerOptions options;
  options.metrics_listen = "127.0.0.1:0";
  Restart(options);
  v1::StreamRequest request = Cheap();
  request.set_count(130);
  ASSERT_TRUE(Served(*client_, request).ok());
  const std::string text = HttpGet(server_->metrics_address(), "/metrics");
  EXPECT_THAT(text, HasSubstr("200 OK"));
  EXPECT_THAT(text, HasSubstr("# TYPE iterand_sequences_total counter"));
  EXPECT_THAT(text, HasSubstr("\niterand_sequences_total 130\n"));
  EXPECT_THAT(text, HasSubstr("\niterand_tokens_total 8320\n"));
  EXPECT_THAT(text, HasSubstr("\niterand_batches_total 3\n"));
  EXPECT_THAT(text, HasSubstr("\niterand_streams_started_total 1\n"));
  EXPECT_THAT(text, HasSubstr("\niterand_segments_generated_total 24\n"));
  for (const char* name : {"sent_bytes_total", "streams_open", "cache_hits_total", "cache_misses_total", "cache_bytes",
                           "generation_seconds_total", "stream_wait_seconds_total", "held_bytes", "engine_threads 2",
                           "engine_info{engine_version=\""}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("\niterand_", name)));
  }
}

// ---- TLS and tokens. ---------------------------------------------------------------------------------------------------

struct CertificateFiles {
  std::string cert;
  std::string key;
};

// A certificate of its own for localhost.
CertificateFiles MakeCertificate(const std::string& name) {
  CertificateFiles files{testing::TempDir() + "/" + name + "_cert.pem", testing::TempDir() + "/" + name + "_key.pem"};
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* cert = X509_new();
  X509_set_version(cert, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
  X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
  X509_set_pubkey(cert, key);
  X509_NAME* subject = X509_get_subject_name(cert);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(cert, subject);
  X509_EXTENSION* names =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:localhost");
  X509_add_ext(cert, names, -1);
  X509_EXTENSION_free(names);
  X509_sign(cert, key, EVP_sha256());
  FILE* file = std::fopen(files.cert.c_str(), "w");
  PEM_write_X509(file, cert);
  std::fclose(file);
  file = std::fopen(files.key.c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  X509_free(cert);
  EVP_PKEY_free(key);
  return files;
}

TEST_F(Service, Tls) {
  const CertificateFiles files = MakeCertificate("tls");
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.tls_cert_file = files.cert;
  options.tls_key_file = files.key;
  const absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  ClientOptions client_options;
  client_options.tls_root_file = files.cert;
  client_options.tls_server_name = "localhost";
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect((*server)->address(), client_options);
  ASSERT_TRUE(client.ok()) << client.status();
  v1::StreamRequest request = Cheap();
  request.set_count(500);
  const absl::StatusOr<std::string> served = Served(**client, request);
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_TRUE(*served == InProcess(RecipeOf(kCheapRecipe), 0, 0, 1, 500));

  // Neither without TLS nor with another's certificate.
  client_options = {};
  client_options.connect_timeout = std::chrono::milliseconds(500);
  client = Client::Connect((*server)->address(), client_options);
  if (client.ok()) EXPECT_FALSE(Served(**client, request).ok());
  client_options.tls_root_file = MakeCertificate("other").cert;
  client_options.tls_server_name = "localhost";
  EXPECT_EQ(Client::Connect((*server)->address(), client_options).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(Service, TlsKeyOfAnotherCertificate) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.tls_cert_file = MakeCertificate("one").cert;
  options.tls_key_file = MakeCertificate("two").key;
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument, HasSubstr("do not fit"));
}

TEST_F(Service, Token) {
  const std::string file = testing::TempDir() + "/iterand_token_" + std::to_string(getpid());
  std::ofstream(file) << "  a long secret\n";
  ServerOptions options;
  options.auth_token_file = file;
  Restart(options);
  v1::StreamRequest request = Cheap();
  request.set_count(1);
  v1::ReadRequest read;
  *read.mutable_stream() = SpecOf(kCheapRecipe);
  read.set_rows(1);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kUnauthenticated, HasSubstr("Bearer"));
  EXPECT_EQ(client_->Read(read).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(client_->Describe({}).status().code(), absl::StatusCode::kUnauthenticated);
  for (const std::string& wrong : {"a long secre", "a long secret!", "A long secret"}) {
    client_ = Connect(*server_, {.token = wrong});
    EXPECT_ERROR(StreamError(request), absl::StatusCode::kUnauthenticated, HasSubstr("not this server's"));
  }
  client_ = Connect(*server_, {.token = "a long secret"});
  EXPECT_TRUE(StreamError(request).ok());
  EXPECT_TRUE(client_->Read(read).ok());
  EXPECT_TRUE(client_->Describe({}).ok());
  EXPECT_EQ(RawCall(server_->address(), "/grpc.health.v1.Health/Check", ""), std::string("\x08\x01", 2));

  std::ofstream(file) << "\n";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  std::remove(file.c_str());
}

}  // namespace
}  // namespace iterand
