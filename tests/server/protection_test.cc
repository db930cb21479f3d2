// Who may connect: addresses that other machines reach, client certificates, tokens, and their rotation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/listen_address.h"
#include "server/log.h"
#include "tests/server/certificates.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Protection : public testing::Test {
 protected:
  Protection() { options_.listen = "127.0.0.1:0"; }
  ~Protection() override { std::remove(token_file_.c_str()); }

  void UseTls(const Certificate& certificate) {
    options_.tls_cert_file = certificate.cert_file;
    options_.tls_key_file = certificate.key_file;
  }

  void Start() {
    options_.threads = 1;
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // The status of a call over a new connection of a client.
  absl::Status Call(ClientOptions client_options) {
    client_options.connect_timeout = std::chrono::seconds(3);
    absl::StatusOr<std::unique_ptr<RpcClient>> client = RpcClient::Connect(server_->address(), client_options);
    return client.ok() ? (*client)->Describe({}).status() : client.status();
  }

  absl::Status CallWithToken(const std::string& token) {
    ClientOptions client_options;
    client_options.token = token;
    return Call(client_options);
  }

  absl::Status CallTrusting(const Certificate& authority) {
    ClientOptions client_options;
    client_options.ca_file = authority.cert_file;
    return Call(client_options);
  }

  void WriteTokens(const std::string& content) { std::ofstream(token_file_) << content; }

  const std::string token_file_ = absl::StrCat(testing::TempDir(), "/iterand-tokens-", getpid());
  ServerOptions options_;
  std::unique_ptr<Server> server_;
};

// ---- Addresses -----------------------------------------------------------------------------------------------------

TEST_F(Protection, WhatOtherMachinesReach) {
  for (const char* local : {"127.0.0.1:0", "127.8.9.10:1", "127.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1",
                            "unix:/tmp/socket"}) {
    const absl::StatusOr<bool> found = IsPublic(local);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_FALSE(*found) << local;
  }
  for (const char* reachable : {"0.0.0.0:1", "0:1", "[::]:1", "[::0]:1", "[::ffff:0.0.0.0]:1", "[::ffff:192.0.2.1]:1",
                                "192.0.2.1:1", "128.0.0.1:1", "[2001:db8::1]:1", "[::127.0.0.1]:1"}) {
    const absl::StatusOr<bool> found = IsPublic(reachable);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_TRUE(*found) << reachable;
  }
  EXPECT_ERROR(IsPublic("no such host:1").status(), absl::StatusCode::kUnavailable, HasSubstr("no such host"));
}

TEST_F(Protection, APublicAddressNeedsTlsAndClientsThatAreKnown) {
  const Certificate certificate("public");
  WriteTokens("secret\n");
  for (const char* listen : {"0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"}) {
    options_ = {};
    options_.listen = listen;
    EXPECT_ERROR(
        Server::Start(options_).status(), absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr(listen), HasSubstr("--tls-cert"), HasSubstr("--token-file"), HasSubstr("--insecure-public")));
    options_.token_file = token_file_;
    EXPECT_ERROR(Server::Start(options_).status(), absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("without TLS (--tls-cert and --tls-key);"), Not(HasSubstr("--token-file"))));
    options_.token_file.clear();
    UseTls(certificate);
    EXPECT_ERROR(Server::Start(options_).status(), absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("without a token (--token-file)"), Not(HasSubstr("--tls-cert"))));
  }
  options_.listen = "0.0.0.0:0";
  options_.token_file = token_file_;
  EXPECT_TRUE(Server::Start(options_).ok());
  options_.token_file.clear();
  options_.tls_client_ca_file = certificate.cert_file;
  EXPECT_TRUE(Server::Start(options_).ok());
  options_ = {};
  options_.listen = "0.0.0.0:0";
  options_.insecure_public = true;
  EXPECT_TRUE(Server::Start(options_).ok());
}

// ---- Client certificates -------------------------------------------------------------------------------------------

TEST_F(Protection, ClientCertificates) {
  const Certificate authority("client-ca");
  const Certificate member("member", &authority);
  const Certificate other_authority("other-ca");
  const Certificate stranger("stranger", &other_authority);
  const Certificate server("server");
  UseTls(server);
  options_.tls_client_ca_file = authority.cert_file;
  Start();

  ClientOptions client_options;
  client_options.ca_file = server.cert_file;
  EXPECT_ERROR(Call(client_options), absl::StatusCode::kUnavailable, HasSubstr("add --tls-cert and --tls-key"));
  client_options.tls_cert_file = stranger.cert_file;
  client_options.tls_key_file = stranger.key_file;
  EXPECT_ERROR(Call(client_options), absl::StatusCode::kUnavailable,
               HasSubstr("one of its authorities must have signed this one"));
  client_options.tls_cert_file = member.cert_file;
  EXPECT_ERROR(Call(client_options), absl::StatusCode::kInvalidArgument, HasSubstr("do not belong together"));
  client_options.tls_key_file = member.key_file;
  EXPECT_TRUE(Call(client_options).ok()) << Call(client_options);
  client_options.tls_key_file.clear();
  EXPECT_ERROR(Call(client_options), absl::StatusCode::kInvalidArgument, HasSubstr("both"));
}

TEST_F(Protection, ClientAuthoritiesNeedTls) {
  options_.tls_client_ca_file = "/nowhere/ca.pem";
  EXPECT_ERROR(Server::Start(options_).status(), absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("--tls-client-ca"), HasSubstr("--tls-cert")));
  const Certificate server("server-ca");
  UseTls(server);
  EXPECT_ERROR(Server::Start(options_).status(), absl::StatusCode::kNotFound, HasSubstr("/nowhere/ca.pem"));
  options_.tls_client_ca_file = server.key_file;
  EXPECT_ERROR(Server::Start(options_).status(), absl::StatusCode::kInvalidArgument, HasSubstr("no PEM certificate"));
}

TEST_F(Protection, ADamagedCertificateOfAChainIsNamed) {
  const Certificate server("chain");
  UseTls(server);
  std::ofstream(server.cert_file, std::ios::app) << "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  EXPECT_ERROR(Server::Start(options_).status(), absl::StatusCode::kInvalidArgument,
               HasSubstr("certificate number 2 is damaged"));
}

// ---- Rotation ------------------------------------------------------------------------------------------------------

TEST_F(Protection, TokensAreRotated) {
  WriteTokens("# two tokens\nold\n\n  new \n");
  options_.token_file = token_file_;
  Start();
  EXPECT_TRUE(CallWithToken("old").ok());
  EXPECT_TRUE(CallWithToken("new").ok());
  for (const char* wrong : {"ol", "oldnew", "# two tokens", "old\\nnew", ""}) {
    EXPECT_EQ(CallWithToken(wrong).code(), absl::StatusCode::kUnauthenticated) << wrong;
  }

  ClientOptions client_options;
  client_options.token = "old";
  const std::unique_ptr<RpcClient> client = Connect(*server_, client_options);
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kCheapRecipe);
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client->Stream(request);
  Batch batch;
  ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();
  WriteTokens("new\nnewer\n");
  EXPECT_TRUE(server_->Reload().ok());
  EXPECT_TRUE(CallWithToken("newer").ok());
  EXPECT_EQ(CallWithToken("old").code(), absl::StatusCode::kUnauthenticated);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();  // it was accepted before

  // A file that cannot be used changes nothing, and never opens the server.
  for (const char* wrong : {"", "\n", "# nothing\n", "new\xff\n"}) {
    WriteTokens(wrong);
    EXPECT_THAT(std::string(server_->Reload().message()), HasSubstr(token_file_));
    EXPECT_TRUE(CallWithToken("newer").ok());
    EXPECT_EQ(CallWithToken("").code(), absl::StatusCode::kUnauthenticated);
  }
  std::remove(token_file_.c_str());
  EXPECT_EQ(server_->Reload().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(CallWithToken("new").ok());
}

TEST_F(Protection, CertificatesAreRotated) {
  const Certificate first("first");
  const Certificate second("second");
  const Certificate served("served");  // whose files are written over
  const auto install = [&](const Certificate& certificate) {
    for (const auto& [from, to] :
         {std::pair(certificate.cert_file, served.cert_file), std::pair(certificate.key_file, served.key_file)}) {
      std::filesystem::copy_file(from, to, std::filesystem::copy_options::overwrite_existing);
    }
  };
  install(first);
  UseTls(served);
  Start();
  EXPECT_TRUE(CallTrusting(first).ok()) << CallTrusting(first);

  ClientOptions client_options;
  client_options.ca_file = first.cert_file;
  const std::unique_ptr<RpcClient> client = Connect(*server_, client_options);
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kCheapRecipe);
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client->Stream(request);
  Batch batch;
  ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();
  install(second);
  EXPECT_TRUE(CallTrusting(first).ok());  // not before it is asked to
  EXPECT_TRUE(server_->Reload().ok());
  EXPECT_TRUE(CallTrusting(second).ok()) << CallTrusting(second);
  EXPECT_EQ(CallTrusting(first).code(), absl::StatusCode::kUnavailable);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();

  // A certificate without its key, half a file and no file: the second one stays.
  std::filesystem::copy_file(first.cert_file, served.cert_file, std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(std::string(server_->Reload().message()), HasSubstr("do not belong together"));
  std::filesystem::resize_file(served.cert_file, 100);
  EXPECT_EQ(server_->Reload().code(), absl::StatusCode::kInvalidArgument);
  std::filesystem::remove(served.cert_file);
  EXPECT_EQ(server_->Reload().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(CallTrusting(second).ok());
}

TEST_F(Protection, ClientAuthoritiesAreRotated) {
  const Certificate server("rotated-server");
  const Certificate old_authority("old-ca");
  const Certificate new_authority("new-ca");
  const Certificate old_member("old-member", &old_authority);
  const Certificate new_member("new-member", &new_authority);
  const std::string authorities = absl::StrCat(testing::TempDir(), "/iterand-ca-", getpid());
  std::filesystem::copy_file(old_authority.cert_file, authorities, std::filesystem::copy_options::overwrite_existing);
  UseTls(server);
  options_.tls_client_ca_file = authorities;
  Start();
  const auto call = [&](const Certificate& member) {
    ClientOptions client_options;
    client_options.ca_file = server.cert_file;
    client_options.tls_cert_file = member.cert_file;
    client_options.tls_key_file = member.key_file;
    return Call(client_options);
  };
  EXPECT_TRUE(call(old_member).ok()) << call(old_member);
  EXPECT_FALSE(call(new_member).ok());
  // Both are accepted while clients change over.
  std::ofstream(authorities, std::ios::app) << std::ifstream(new_authority.cert_file).rdbuf();
  EXPECT_TRUE(server_->Reload().ok());
  EXPECT_TRUE(call(old_member).ok()) << call(old_member);
  EXPECT_TRUE(call(new_member).ok()) << call(new_member);
  std::filesystem::copy_file(new_authority.cert_file, authorities, std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(server_->Reload().ok());
  EXPECT_FALSE(call(old_member).ok());
  EXPECT_TRUE(call(new_member).ok()) << call(new_member);
  std::filesystem::remove(authorities);
}

// A broken certificate does not keep a leaked token in use.
TEST_F(Protection, TokensAreReloadedBesideABrokenCertificate) {
  const Certificate served("broken");
  WriteTokens("leaked\n");
  UseTls(served);
  options_.token_file = token_file_;
  Start();
  std::filesystem::resize_file(served.key_file, 10);
  WriteTokens("fresh\n");
  EXPECT_FALSE(server_->Reload().ok());
  ClientOptions client_options;
  client_options.ca_file = served.cert_file;
  client_options.token = "leaked";
  EXPECT_EQ(Call(client_options).code(), absl::StatusCode::kUnauthenticated);
  client_options.token = "fresh";
  EXPECT_TRUE(Call(client_options).ok());
}

// ---- The log -------------------------------------------------------------------------------------------------------

TEST_F(Protection, TheLogIsOneHarmlessLineForWhateverIsSent) {
  Start();
  std::ostringstream text;
  const auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text);
  SetLogFormat(*sink);
  Log().sinks().push_back(sink);
  v1::DescribeRequest request;
  request.mutable_stream()->set_preset("a\n[forged] \x1b[2J\x7f\xe2\x80\xae\xc2\x9b");
  request.mutable_stream()->mutable_preset()->push_back('\0');
  EXPECT_FALSE(Connect(*server_)->Describe(request).ok());
  request.mutable_stream()->set_recipe_json("{\"famil\xe2\x80\xa8\\u202e\x1b\": 1}");
  EXPECT_FALSE(Connect(*server_)->Describe(request).ok());
  server_ = nullptr;
  Log().sinks().pop_back();
  const std::string log = text.str();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2) << log;
  EXPECT_THAT(log, HasSubstr(R"(a\n[forged] \u001b[2J\u007f\u202e\u009b\u0000)"));
  for (const char character : log) EXPECT_TRUE(character == '\n' || (character >= ' ' && character != '\x7f'));
}

}  // namespace
}  // namespace iterand
