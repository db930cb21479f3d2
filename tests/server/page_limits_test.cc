// What the page's port withstands: slow, large and many requests, and those that nobody waits for any more.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/certificates.h"
#include "tests/server/fixture.h"
#include "tests/server/http_request.h"

namespace iterand {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class PageLimits : public ServiceTest {
 protected:
  void SetUp() override { StartPage({}); }

  void StartPage(const HttpServer::Limits& limits) {
    ServerOptions options;
    options.http_listen = "127.0.0.1:0";
    options.http_limits = limits;
    Restart(options);
    page_ = server_->http_address();
  }

  bool Answers() { return Ask(page_, {.path = "/api/live"}).status == 200; }

  std::string page_;
};

TEST_F(PageLimits, LargeRequestsAreRefused) {
  const HttpAsk large{.method = "POST",
                      .path = "/api/describe",
                      .body = std::string(std::size_t{2} << 20, ' '),
                      .headers = {"Content-Type: application/json"}};
  EXPECT_EQ(Ask(page_, large).status, 413);
  EXPECT_EQ(Ask(page_, {.headers = {absl::StrCat("X: ", std::string(20000, 'x'))}}).status, 431);
  EXPECT_EQ(Ask(page_, {.path = absl::StrCat("/", std::string(20000, 'x'))}).status, 431);
  HttpConnection connection(page_);
  connection.Send("this is not HTTP\r\n\r\n");
  EXPECT_EQ(ParseHttp(connection.ReadAll()).status, 400);
  EXPECT_TRUE(Answers());
}

TEST_F(PageLimits, ChunkedBodiesHaveTheSameLimit) {
  HttpConnection connection(page_);
  connection.Send(
      "POST /api/describe HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  const std::string chunk = absl::StrCat("10000\r\n", std::string(65536, ' '), "\r\n");
  for (int i = 0; i < 40 && connection.Send(chunk); ++i) {
  }
  EXPECT_EQ(ParseHttp(connection.ReadAll()).status, 413);
}

TEST_F(PageLimits, SlowRequestsAreCutOff) {
  StartPage({.request = milliseconds(300)});
  HttpConnection slow(page_);
  slow.Send("GET / HTTP/1.1\r\n");
  // A byte now and then does not help.
  std::thread drip([&] {
    for (int i = 0; i < 20 && slow.Send("X"); ++i) std::this_thread::sleep_for(milliseconds(50));
  });
  EXPECT_TRUE(slow.ClosedWithin(2000));
  drip.join();
  HttpConnection body(page_);
  body.Send(
      "POST /api/describe HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "100\r\n\r\n{");
  EXPECT_TRUE(body.ClosedWithin(2000));
  EXPECT_TRUE(Answers());
}

TEST_F(PageLimits, SlowConnectionsKeepNobodyWaiting) {
  std::vector<std::unique_ptr<HttpConnection>> slow;
  for (int i = 0; i < 40; ++i) {
    slow.push_back(std::make_unique<HttpConnection>(page_));
    slow.back()->Send("GET / HTTP/1.1\r\nHost: local");
  }
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(Answers());
}

TEST_F(PageLimits, NewConnectionsReplaceIdleOnes) {
  StartPage({.connections = 8});
  std::vector<std::unique_ptr<HttpConnection>> idle;
  idle.reserve(50);
  for (int i = 0; i < 50; ++i) idle.push_back(std::make_unique<HttpConnection>(page_));
  EXPECT_TRUE(Answers());
  // Those that wait for an answer, or send one, are not replaced.
  std::vector<std::unique_ptr<HttpConnection>> busy;
  for (int i = 0; i < 8; ++i) {
    busy.push_back(std::make_unique<HttpConnection>(page_));
    busy.back()->Send("GET / HTTP/1.1\r\n");
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(Ask(page_, {.path = "/api/live"}).status, 0);
  busy.clear();
  EXPECT_TRUE(WaitUntil([&] { return Answers(); }));
}

TEST_F(PageLimits, IdleConnectionsAreClosed) {
  StartPage({.idle = milliseconds(200)});
  HttpConnection idle(page_);
  EXPECT_TRUE(idle.ClosedWithin(3000));
}

TEST_F(PageLimits, AConnectionServesSeveralRequests) {
  HttpConnection connection(page_);
  for (int i = 0; i < 3; ++i) {
    connection.Send("GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_EQ(ParseHttp(connection.ReadAll(500)).status, 200);
  }
}

// The recipe's segment takes seconds: the engine is free again at once if the request was given up.
TEST_F(PageLimits, WhatNobodyWaitsForIsGivenUp) {
  {
    HttpConnection gone(page_);
    gone.Send(Wire({.method = "POST",
                    .path = "/api/preview",
                    .body = nlohmann::json({{"recipe", kSlowRecipe}}).dump(),
                    .headers = {"Content-Type: application/json"}}));
    EXPECT_TRUE(WaitUntil([&] { return server_->stats().segments_running > 0; }));
  }
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().segments_running == 0; }, std::chrono::seconds(2)));
  EXPECT_GT(server_->stats().segments_cancelled, 0U);
}

TEST_F(PageLimits, AnExplanationIsGivenUpToo) {
  HttpConnection gone(page_);
  gone.Send(Wire({.method = "POST",
                  .path = "/api/explain",
                  .body = nlohmann::json({{"recipe", kSlowRecipe}}).dump(),
                  .headers = {"Content-Type: application/json"}}));
  std::this_thread::sleep_for(milliseconds(300));
  gone.Close();
  const auto begin = std::chrono::steady_clock::now();
  server_->Shutdown(milliseconds(0));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

TEST_F(PageLimits, ManySlowRequestsDoNotDelayStreams) {
  std::vector<std::unique_ptr<HttpConnection>> connections;
  for (int i = 0; i < 30; ++i) {
    connections.push_back(std::make_unique<HttpConnection>(page_));
    connections.back()->Send(Wire({.method = "POST",
                                   .path = "/api/preview",
                                   .body = nlohmann::json({{"recipe", kSlowRecipe}, {"seed", i}}).dump(),
                                   .headers = {"Content-Type: application/json"}}));
  }
  v1::StreamRequest request = Cheap();
  request.set_count(64);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(Served(*client_, request).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  EXPECT_TRUE(Answers());
}

TEST_F(PageLimits, ShutdownEndsRequests) {
  HttpConnection waiting(page_);
  waiting.Send(Wire({.method = "POST",
                     .path = "/api/preview",
                     .body = nlohmann::json({{"recipe", kSlowRecipe}}).dump(),
                     .headers = {"Content-Type: application/json"}}));
  std::this_thread::sleep_for(milliseconds(100));
  const auto begin = std::chrono::steady_clock::now();
  server_->Shutdown(milliseconds(0));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  EXPECT_TRUE(waiting.ClosedWithin(1000));
  EXPECT_FALSE(HttpConnection(page_).connected());
}

// ---- TLS, as the program openssl sees it.

std::string OverTls(const std::string& address, const std::string& options) {
  const std::string port = address.substr(address.rfind(':') + 1);
  const std::string command =
      absl::StrCat("printf 'GET /api/live HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' | ",
                   "openssl s_client -quiet -connect 127.0.0.1:", port, " ", options, " 2>/dev/null");
  // NOLINTNEXTLINE(bugprone-command-processor): the pipe needs a shell
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  std::string bytes;
  char buffer[4096];
  std::size_t size = 0;
  while ((size = fread(buffer, 1, sizeof(buffer), pipe)) > 0) bytes.append(buffer, size);
  pclose(pipe);
  return bytes;
}

TEST_F(PageLimits, EncryptsAndAsksForCertificatesAsTheOtherPort) {
  const Certificate own("page");
  const Certificate authority("page_clients");
  const Certificate client("page_client", &authority);
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.http_listen = "127.0.0.1:0";
  options.tls_cert_file = own.cert_file;
  options.tls_key_file = own.key_file;
  {
    const std::unique_ptr<Server> server = *Server::Start(options);
    const std::string trust = absl::StrCat("-CAfile ", own.cert_file, " -verify_return_error");
    EXPECT_THAT(OverTls(server->http_address(), trust), HasSubstr("200 OK"));
    EXPECT_EQ(Ask(server->http_address(), {}).status, 0);  // not encrypted
    // A handshake that never ends keeps nobody waiting.
    HttpConnection silent(server->http_address());
    EXPECT_THAT(OverTls(server->http_address(), trust), HasSubstr("200 OK"));
    ASSERT_TRUE(server->Reload().ok());
    EXPECT_THAT(OverTls(server->http_address(), trust), HasSubstr("200 OK"));
  }
  options.tls_client_ca_file = authority.cert_file;
  const std::unique_ptr<Server> server = *Server::Start(options);
  EXPECT_EQ(OverTls(server->http_address(), ""), "");
  EXPECT_THAT(OverTls(server->http_address(), absl::StrCat("-cert ", client.cert_file, " -key ", client.key_file)),
              HasSubstr("200 OK"));
}

}  // namespace
}  // namespace iterand
