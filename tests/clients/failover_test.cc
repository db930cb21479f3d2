// The client beside servers that end, stop, restart or do not exist: what it reads is exact, and no call waits
// endlessly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "clients/cpp/rpc_client.h"
#include "iterate/presets.h"
#include "iterate/stream.h"
#include "tests/clients/command_line.h"

namespace iterand {
namespace {

using iterand::testing::RunningServer;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kLength = 128;

v1::StreamRequest Request() {
  v1::StreamRequest request;
  request.mutable_stream()->set_preset("uniform");
  request.mutable_stream()->set_length(kLength);
  request.set_batch_size(7);
  return request;
}

// The first sequences of the stream, made in this process.
std::string Expected(int rows, std::uint64_t stride = 1) {
  v1::Recipe recipe = *LoadPreset("uniform");
  recipe.set_length(kLength);
  const std::shared_ptr<Stream> stream = *Stream::Open(recipe, 0);
  std::string bytes(static_cast<std::size_t>(rows) * kLength, '\0');
  const ReadOptions options{.first_index = 0, .stride = stride, .rows = rows};
  EXPECT_TRUE(stream->Read(options, std::as_writable_bytes(std::span(bytes))).ok());
  return bytes;
}

// A socket that accepts connections and never answers.
class MuteServer {
 public:
  MuteServer() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (socket_ < 0) throw std::runtime_error("no socket");
    EXPECT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(socket_, 64), 0);
    getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~MuteServer() { close(socket_); }
  const std::string& address() const { return address_; }

 private:
  int socket_;
  std::string address_;
};

class Failover : public ::testing::TestWithParam<int> {
 protected:
  // Continues to read until a batch has taken over `gap`, and then ten more. Returns the longest time of a batch.
  static milliseconds ReadOver(RemoteStream& reader, milliseconds gap, std::string& bytes) {
    milliseconds longest{0};
    for (int more = 10; more > 0;) {
      Batch batch;
      const steady_clock::time_point begin = steady_clock::now();
      const bool found = reader.Next(batch);
      EXPECT_TRUE(found) << reader.status();
      if (!found) return longest;
      longest = std::max(longest, std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin));
      const std::size_t before = bytes.size();
      bytes.resize(before + batch.token_bytes());
      batch.CopyTo(std::as_writable_bytes(std::span(bytes)).subspan(before));
      if (longest >= gap) --more;
    }
    return longest;
  }
};

INSTANTIATE_TEST_SUITE_P(Prefetch, Failover, ::testing::Values(0, 4));

TEST_P(Failover, AStoppedServerIsLeftWithinTenSeconds) {
  RunningServer first;
  RunningServer second;
  const auto client = *RpcClient::ConnectToAny({first.address(), second.address()});
  const auto reader = *client->Stream(Request(), GetParam());
  std::string bytes;
  EXPECT_LT(ReadOver(*reader, milliseconds(0), bytes), seconds(10));
  first.process().Signal(SIGSTOP);
  EXPECT_LT(ReadOver(*reader, milliseconds(1000), bytes), seconds(10));
  first.process().Signal(SIGCONT);
  EXPECT_EQ(bytes, Expected(static_cast<int>(bytes.size()) / kLength));
}

TEST_P(Failover, AServerThatIsKilledIsLeft) {
  RunningServer first;
  RunningServer second;
  ClientOptions options;
  options.retry.first_wait = milliseconds(1500);  // to be seen as a gap
  std::mutex mutex;
  std::vector<std::string> lines;
  options.report = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    lines.push_back(line);
  };
  const auto client = *RpcClient::ConnectToAny({first.address(), second.address()}, options);
  v1::StreamRequest request = Request();
  request.mutable_shard()->set_rank(0);
  request.mutable_shard()->set_world_size(2);
  const auto reader = *client->Stream(request, GetParam());
  std::string bytes;
  ReadOver(*reader, milliseconds(0), bytes);
  first.process().Signal(SIGKILL);
  ReadOver(*reader, milliseconds(1000), bytes);
  EXPECT_EQ(bytes, Expected(static_cast<int>(bytes.size()) / kLength, 2));
  const std::lock_guard lock(mutex);
  EXPECT_THAT(lines, ElementsAre(AllOf(StartsWith("waiting for a server"), HasSubstr(second.address())),
                                 StartsWith(second.address() + " answers, after ")));
}

TEST_P(Failover, AStreamOfKnownSizeEndsWhereItShould) {
  RunningServer first;
  RunningServer second;
  const auto client = *RpcClient::ConnectToAny({first.address(), second.address()});
  v1::StreamRequest request = Request();
  request.set_count(500'000);
  const auto reader = *client->Stream(request, GetParam());
  Batch batch;
  ASSERT_TRUE(reader->Next(batch)) << reader->status();
  std::uint64_t rows = batch.rows();
  first.process().Signal(SIGKILL);
  while (reader->Next(batch)) {
    ASSERT_EQ(batch.first_index(), rows);
    rows += batch.rows();
  }
  EXPECT_TRUE(reader->status().ok()) << reader->status();
  EXPECT_EQ(rows, 500'000);
  EXPECT_EQ(reader->next_index(), 500'000);
}

TEST(Calls, LeaveAServerThatIsSilent) {
  RunningServer first;
  RunningServer second;
  const auto client = *RpcClient::ConnectToAny({first.address(), second.address()});
  EXPECT_TRUE(client->Describe({}).ok());
  first.process().Signal(SIGSTOP);
  const steady_clock::time_point begin = steady_clock::now();
  v1::ReadRequest read;
  *read.mutable_stream() = Request().stream();
  read.set_rows(3);
  read.set_stride(1);
  const absl::StatusOr<Batch> batch = client->Read(read);
  EXPECT_LT(steady_clock::now() - begin, seconds(10));
  first.process().Signal(SIGCONT);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(batch->tokens().data()), batch->token_bytes()), Expected(3));
}

TEST(Calls, ConnectToTheServerThatAnswers) {
  MuteServer mute;
  RunningServer server;
  const steady_clock::time_point begin = steady_clock::now();
  const auto client = RpcClient::ConnectToAny({mute.address(), "127.0.0.1:1", server.address()});
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_TRUE((*client)->Describe({}).ok());
  EXPECT_LT(steady_clock::now() - begin, seconds(10));
}

TEST(Calls, EndAtTheirTimeout) {
  RunningServer server;
  const auto client = *RpcClient::Connect(server.address());
  server.process().Signal(SIGSTOP);
  const steady_clock::time_point begin = steady_clock::now();
  const absl::Status described = client->Describe({}, milliseconds(700)).status();
  v1::ExecuteRequest request;
  request.add_programs()->set_text(".");
  const absl::Status executed =
      client->Execute(request, [](const v1::ExecuteResult&) { return true; }, milliseconds(700));
  EXPECT_LT(steady_clock::now() - begin, seconds(5));
  server.process().Signal(SIGCONT);
  for (const absl::Status& status : {described, executed}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(server.address()), HasSubstr("timeout of 0.7 s")));
  }
  EXPECT_EQ(client->Describe({}, milliseconds(0)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Calls, ACallerThatPausesKeepsItsStream) {
  RunningServer server;
  ClientOptions options;
  options.keepalive_time = milliseconds(200);
  options.keepalive_timeout = milliseconds(1000);
  options.retry.attempts = 0;
  const auto client = *RpcClient::Connect(server.address(), options);
  const auto reader = *client->Stream(Request());
  Batch batch;
  ASSERT_TRUE(reader->Next(batch)) << reader->status();
  std::this_thread::sleep_for(seconds(3));
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(reader->Next(batch)) << reader->status();
  EXPECT_EQ(batch.first_index(), 5000U * 7);
}

TEST(Calls, ASlowStreamIsNotSilent) {
  RunningServer server;
  ClientOptions options;
  options.keepalive_time = milliseconds(1);
  options.connect_timeout = milliseconds(1000);
  options.retry.attempts = 0;
  const auto client = *RpcClient::Connect(server.address(), options);
  v1::StreamRequest request;
  request.mutable_stream()->set_recipe_json(
      R"({"families": [{"lstm": {"hidden": {"fixed": 32}}}], "length": 128, "lanes": 4, "segment_sequences": 65536})");
  request.set_batch_size(64);
  const auto reader = *client->Stream(request);
  Batch batch;
  EXPECT_TRUE(reader->Next(batch)) << reader->status();
}

TEST(Calls, ExecutionsGoOnAtTheNextServer) {
  auto first = std::make_unique<RunningServer>();
  RunningServer second;
  const auto client = *RpcClient::ConnectToAny({first->address(), second.address()});
  v1::ExecuteRequest request;
  for (int i = 0; i < 60; ++i) request.add_programs()->set_text("+[]");
  request.set_max_steps(1 << 22);
  std::vector<int> order;
  const absl::Status status = client->Execute(request, [&](const v1::ExecuteResult& result) {
    order.push_back(static_cast<int>(result.program()));
    if (order.size() == 3) first->process().Signal(SIGKILL);
    return true;
  });
  EXPECT_TRUE(status.ok()) << status;
  ASSERT_EQ(order.size(), 60U);
  for (int i = 0; i < 60; ++i) EXPECT_EQ(order[i], i);
}

}  // namespace
}  // namespace iterand
