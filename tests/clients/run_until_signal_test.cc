// The life of `iterand serve`, in this process.
#include "clients/cli/run_until_signal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include "tests/clients/command_line.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(RunUntilSignal, DrainsAndReturns) {
  const std::string file = ::testing::TempDir() + "/iterand_address_" + std::to_string(getpid());
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.address_file = file;
  options.metrics_listen = "127.0.0.1:0";
  options.threads = 1;
  std::ostringstream out;
  absl::Status status = absl::UnknownError("still running");
  std::thread run([&] { status = cli::RunUntilSignal(options, out); });
  std::string address;
  ASSERT_TRUE(WaitUntil([&] { return static_cast<bool>(std::ifstream(file) >> address); }));
  ClientOptions once;
  once.retry.attempts = 0;
  absl::StatusOr<std::unique_ptr<RpcClient>> client = RpcClient::Connect(address, once);
  ASSERT_TRUE(client.ok()) << client.status();
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kCheapRecipe);
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = (*client)->Stream(request);
  Batch batch;
  ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();
  // That thread has blocked the signal and waits for it.
  pthread_kill(run.native_handle(), SIGTERM);  // NOLINT(bugprone-bad-signal-to-kill-thread)
  while ((*reader)->Next(batch)) {
  }
  EXPECT_ERROR((*reader)->status(), absl::StatusCode::kUnavailable, HasSubstr("resume from index"));
  run.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(out.str(), AllOf(HasSubstr("listening on " + address + "\n"), HasSubstr("metrics on 127.0.0.1:")));
  EXPECT_FALSE(std::ifstream(file).good());  // gone with the server
}

TEST(RunUntilSignal, HangupReloadsBeforeItIsReadyWhileItServesAndWhileItDrains) {
  const std::string tokens = ::testing::TempDir() + "/iterand_tokens_" + std::to_string(getpid());
  const std::string file = ::testing::TempDir() + "/iterand_hangup_" + std::to_string(getpid());
  std::ofstream(tokens) << "old\n";
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.address_file = file;
  options.token_file = tokens;
  options.threads = 1;
  options.drain = std::chrono::seconds(2);
  // Like a process that starts with the signal blocked; otherwise the signal could come before the thread blocks it.
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &hangup, nullptr);
  std::ostringstream out;
  absl::Status status = absl::UnknownError("still running");
  std::thread run([&] { status = cli::RunUntilSignal(options, out); });
  const auto send = [&](int signal) { pthread_kill(run.native_handle(), signal); };  // NOLINT
  send(SIGHUP);
  std::string address;
  ASSERT_TRUE(WaitUntil([&] { return static_cast<bool>(std::ifstream(file) >> address); }));
  const auto accepts = [&](const std::string& token) {
    ClientOptions client_options;
    client_options.token = token;
    const auto client = RpcClient::Connect(address, client_options);
    return client.ok() && (*client)->Describe({}).ok();
  };
  EXPECT_TRUE(accepts("old"));
  std::ofstream(tokens) << "new\n";
  send(SIGHUP);
  EXPECT_TRUE(WaitUntil([&] { return accepts("new"); }, std::chrono::seconds(20)));
  EXPECT_FALSE(accepts("old"));

  // A stream without a reader prolongs the drain.
  ClientOptions client_options;
  client_options.token = "new";
  const auto client = RpcClient::Connect(address, client_options);
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kCheapRecipe);
  request.mutable_stream()->set_length(4096);
  request.set_batch_size(256);
  const auto reader = (*client)->Stream(request);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  send(SIGTERM);
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    send(SIGHUP);
  }
  run.join();
  EXPECT_TRUE(status.ok()) << status;
  pthread_sigmask(SIG_UNBLOCK, &hangup, nullptr);
  std::remove(tokens.c_str());
}

TEST(RunUntilSignal, AServerWithNothingToReloadSurvivesAHangup) {
  iterand::testing::RunningServer server;
  for (int i = 0; i < 3; ++i) {
    server.process().Signal(SIGHUP);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  const auto client = RpcClient::Connect(server.address());
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_TRUE((*client)->Describe({}).ok());
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(), 0);
}

// A terminal that is closed sends SIGHUP, too.
TEST(RunUntilSignal, AServerInTheForegroundEndsWithItsTerminal) {
  int terminal = -1;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, nullptr);
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    std::signal(SIGHUP, SIG_DFL);  // the tests above have it ignored, as nohup does
    execl(ITERAND_BINARY, ITERAND_BINARY, "serve", "--listen", "127.0.0.1:0", nullptr);
    _exit(127);
  }
  std::string text;
  char buffer[256];
  ssize_t size;
  while (text.find("serving on") == std::string::npos && (size = read(terminal, buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<std::size_t>(size));
  }
  close(terminal);
  int wait_status = -1;
  const bool ended = WaitUntil([&] { return waitpid(pid, &wait_status, WNOHANG) == pid; }, std::chrono::seconds(20));
  EXPECT_TRUE(ended) << text;
  if (!ended) kill(pid, SIGKILL);
  EXPECT_TRUE(WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) << wait_status;
}

}  // namespace
}  // namespace iterand
