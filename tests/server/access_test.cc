// Health, reflection, metrics, TLS and tokens.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/certificates.h"
#include "tests/server/fixture.h"
#include "tests/server/http_get.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Access = ServiceTest;

// ---- Health, reflection, metrics ------------------------------------------------------------------------------------

// A call by name with bytes, as a tool without our schema makes it.
std::string RawCall(const std::string& address, const std::string& method, const std::string& request,
                    grpc::StatusCode expected = grpc::StatusCode::OK) {
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
  EXPECT_EQ(status.error_code(), expected) << status.error_message();
  return bytes;
}

TEST_F(Access, Health) {
  // HealthCheckResponse {status: SERVING}
  EXPECT_EQ(RawCall(server_->address(), "/grpc.health.v1.Health/Check", ""), std::string("\x08\x01", 2));
  // HealthCheckRequest {service: "iterand.v1.NoiseService"}
  EXPECT_EQ(RawCall(server_->address(), "/grpc.health.v1.Health/Check", "\x0a\x17iterand.v1.NoiseService"),
            std::string("\x08\x01", 2));
}

TEST_F(Access, Reflection) {
  // ServerReflectionRequest {list_services: ""}
  const std::string services = RawCall(
      server_->address(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3a\x00", 2));
  EXPECT_THAT(services, AllOf(HasSubstr("iterand.v1.NoiseService"), HasSubstr("grpc.health.v1.Health")));
  // ServerReflectionRequest {file_containing_symbol: "iterand.v1.NoiseService"}
  const std::string symbol = "iterand.v1.NoiseService";
  const std::string file =
      RawCall(server_->address(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              absl::StrCat(std::string(1, '\x22'), std::string(1, static_cast<char>(symbol.size())), symbol));
  EXPECT_THAT(file, HasSubstr("iterand/v1/noise_service.proto"));
}

TEST_F(Access, Metrics) {
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
  EXPECT_THAT(text, HasSubstr("\niterand_calls_total{method=\"Stream\",code=\"OK\"} 1\n"));
  for (const char* name :
       {"sent_bytes_total", "streams_open", "cache_hits_total", "cache_misses_total", "cache_bytes",
        "generation_seconds_total", "stream_wait_seconds_total", "held_bytes", "engine_threads 2", "idle_stream_bytes",
        "used_stream_bytes", "streams_idle ", "segments_replaying 0", "engine_info{engine_version=\""}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("\niterand_", name)));
  }
}

TEST_F(Access, MetricsAtATakenPort) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.metrics_listen = server_->address();
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kUnavailable,
               HasSubstr(absl::StrCat("cannot serve metrics on ", server_->address(), ": Address already in use")));
}

// Calls that never became streams are counted, too.
TEST_F(Access, RefusedCallsAreCounted) {
  ServerOptions options;
  options.max_streams = 1;
  Restart(options);
  v1::StreamRequest unknown;
  *unknown.mutable_stream() = PresetSpec("nope");
  EXPECT_FALSE(StreamError(unknown).ok());
  EXPECT_FALSE(StreamError(unknown).ok());
  EXPECT_FALSE(client_->Read({}).ok());
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(Cheap());
  Batch batch;
  ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();
  EXPECT_FALSE(StreamError(Cheap()).ok());
  const auto ended = [&](Method method, grpc::StatusCode code) {
    return server_->stats().calls_ended[static_cast<std::size_t>(method)][code];
  };
  EXPECT_EQ(ended(Method::kStream, grpc::StatusCode::NOT_FOUND), 2U);
  EXPECT_EQ(ended(Method::kRead, grpc::StatusCode::INVALID_ARGUMENT), 1U);
  EXPECT_EQ(ended(Method::kStream, grpc::StatusCode::UNAVAILABLE), 1U);
  EXPECT_EQ(ended(Method::kStream, grpc::StatusCode::OK), 0U);
  (*reader)->Cancel();
  EXPECT_TRUE(WaitUntil([&] { return ended(Method::kStream, grpc::StatusCode::CANCELLED) == 1; }));
}

// ---- TLS and tokens -------------------------------------------------------------------------------------------------

TEST_F(Access, Tls) {
  const Certificate files("tls");
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.tls_cert_file = files.cert_file;
  options.tls_key_file = files.key_file;
  const absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  ClientOptions client_options;
  client_options.ca_file = files.cert_file;
  client_options.tls_server_name = "localhost";
  absl::StatusOr<std::unique_ptr<RpcClient>> client = RpcClient::Connect((*server)->address(), client_options);
  ASSERT_TRUE(client.ok()) << client.status();
  v1::StreamRequest request = Cheap();
  request.set_count(500);
  const absl::StatusOr<std::string> served = Served(**client, request);
  ASSERT_TRUE(served.ok()) << served.status();
  EXPECT_TRUE(*served == InProcess(RecipeOf(kCheapRecipe), 0, 0, 1, 500));

  // Neither without TLS nor with another's certificate.
  client_options = {};
  client_options.connect_timeout = std::chrono::milliseconds(500);
  client = RpcClient::Connect((*server)->address(), client_options);
  if (client.ok()) {
    EXPECT_FALSE(Served(**client, request).ok());
  } else {
    EXPECT_THAT(std::string(client.status().message()), HasSubstr("if it uses TLS, add --tls"));
  }
  const Certificate other("other");
  client_options.ca_file = other.cert_file;
  client_options.tls_server_name = "localhost";
  EXPECT_EQ(RpcClient::Connect((*server)->address(), client_options).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(Access, AnEmptyFileOfTlsRootsIsRefused) {
  ClientOptions options;
  options.ca_file = testing::TempDir() + "/" + std::to_string(getpid()) + "empty.pem";
  std::ofstream(options.ca_file).close();
  EXPECT_ERROR(RpcClient::Connect(server_->address(), options).status(), absl::StatusCode::kInvalidArgument,
               HasSubstr("empty.pem has no PEM certificate"));
}

TEST_F(Access, TlsKeyOfAnotherCertificate) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  const Certificate one("one");
  const Certificate two("two");
  options.tls_cert_file = one.cert_file;
  options.tls_key_file = two.key_file;
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument,
               HasSubstr("do not belong together"));
}

TEST_F(Access, AnEncryptedTlsKeyIsRefused) {
  const Certificate files("encrypted", nullptr, /*encrypted_key=*/true);
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.tls_cert_file = files.cert_file;
  options.tls_key_file = files.key_file;
  EXPECT_ERROR(Server::Start(options).status(), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr(files.key_file), HasSubstr("is encrypted, must have no passphrase")));
}

TEST_F(Access, Token) {
  const std::string file = testing::TempDir() + "/iterand_token_" + std::to_string(getpid());
  std::ofstream(file) << "  a long secret\n";
  ServerOptions options;
  options.token_file = file;
  Restart(options);
  v1::StreamRequest request = Cheap();
  request.set_count(1);
  v1::ReadRequest read;
  *read.mutable_stream() = SpecOf(kCheapRecipe);
  read.set_rows(1);
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kUnauthenticated, HasSubstr("Bearer"));
  EXPECT_EQ(client_->Read(read).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(client_->Describe({}).status().code(), absl::StatusCode::kUnauthenticated);
  // Nothing is parsed before the token is checked: no message begins with ff.
  for (const char* method : {"Stream", "Read", "Describe", "Execute"}) {
    RawCall(server_->address(), absl::StrCat("/iterand.v1.NoiseService/", method), "\xff",
            grpc::StatusCode::UNAUTHENTICATED);
  }
  for (const char* wrong : {"a long secre", "a long secret!", "A long secret"}) {
    ClientOptions client_options;
    client_options.token = wrong;
    client_ = Connect(*server_, client_options);
    EXPECT_ERROR(StreamError(request), absl::StatusCode::kUnauthenticated, HasSubstr("not this server's"));
  }
  ClientOptions client_options;
  client_options.token = "a long secret";
  client_ = Connect(*server_, client_options);
  EXPECT_TRUE(StreamError(request).ok());
  EXPECT_TRUE(client_->Read(read).ok());
  EXPECT_TRUE(client_->Describe({}).ok());
  EXPECT_EQ(RawCall(server_->address(), "/grpc.health.v1.Health/Check", ""), std::string("\x08\x01", 2));

  std::ofstream(file) << "\n";
  options.listen = "127.0.0.1:0";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
  std::remove(file.c_str());
}

}  // namespace
}  // namespace iterand
