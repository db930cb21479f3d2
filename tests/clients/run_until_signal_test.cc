// The life of `iterand serve`, in this process.
#include "clients/cli/run_until_signal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(RunUntilSignal, DrainsAndReturns) {
  const std::string file = testing::TempDir() + "/iterand_address_" + std::to_string(getpid());
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
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(address);
  ASSERT_TRUE(client.ok()) << client.status();
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kCheapRecipe);
  absl::StatusOr<std::unique_ptr<BatchReader>> reader = (*client)->Stream(request);
  Batch batch;
  ASSERT_TRUE((*reader)->Next(batch).ok());
  // That thread has blocked the signal and waits for it.
  pthread_kill(run.native_handle(), SIGTERM);  // NOLINT(bugprone-bad-signal-to-kill-thread)
  absl::StatusOr<bool> more = true;
  while (more.ok() && *more) more = (*reader)->Next(batch);
  EXPECT_ERROR(more.status(), absl::StatusCode::kUnavailable, HasSubstr("resume from index"));
  run.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(out.str(), AllOf(HasSubstr("listening on " + address + "\n"), HasSubstr("metrics on 127.0.0.1:")));
  EXPECT_FALSE(std::ifstream(file).good());  // gone with the server
}

}  // namespace
}  // namespace iterand
