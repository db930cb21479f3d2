// What a server keeps after a burst of streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/clients/command_line.h"
#include "tests/clients/free_port.h"
#include "tests/server/fixture.h"
#include "tests/server/http_get.h"

namespace iterand::testing {
namespace {

constexpr double kMegabyte = 1 << 20;

// ITERAND_TEST_BURST: streams of the burst, 400 in the complete form.
int BurstStreams() {
  const char* const text = std::getenv("ITERAND_TEST_BURST");
  int streams = 0;
  return text != nullptr && absl::SimpleAtoi(text, &streams) ? streams : 48;
}

double ResidentMegabytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  std::uint64_t all = 0;
  std::uint64_t resident = 0;
  file >> all >> resident;
  return static_cast<double>(resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE))) / kMegabyte;
}

double MetricMegabytes(const std::string& metrics, const std::string& name) {
  const std::size_t at = metrics.find("\niterand_" + name + " ");
  EXPECT_NE(at, std::string::npos) << name;
  return at == std::string::npos ? 0 : std::strtod(metrics.c_str() + metrics.find(' ', at) + 1, nullptr) / kMegabyte;
}

TEST(Memory, ABurstOfStreamsGivesItsMemoryBack) {
#ifdef ITERAND_SANITIZED
  GTEST_SKIP() << "a sanitizer has an allocator of its own";
#endif
  const int streams = BurstStreams();
  const std::string metrics_address = absl::StrCat("127.0.0.1:", FreePort());
  RunningServer server({"--metrics-listen", metrics_address, "--max-streams", absl::StrCat(streams)});
  const auto excess = [&] {
    const std::string metrics = HttpGet(metrics_address, "/metrics");
    return ResidentMegabytes(server.process().pid()) - MetricMegabytes(metrics, "cache_bytes") -
           MetricMegabytes(metrics, "idle_stream_bytes");
  };
  double peak = 0;
  {
    const auto client = RpcClient::Connect(server.address());
    ASSERT_TRUE(client.ok()) << client.status();
    const absl::StatusOr<v1::DescribeResponse> list = (*client)->Describe({});
    ASSERT_TRUE(list.ok()) << list.status();
    std::vector<std::unique_ptr<RpcClient>> clients(4);
    for (std::unique_ptr<RpcClient>& one : clients) one = *RpcClient::Connect(server.address());
    std::vector<std::unique_ptr<RemoteStream>> readers;
    for (int i = 0; i < streams; ++i) {
      v1::StreamRequest request;
      *request.mutable_stream() = PresetSpec(list->presets(i % list->presets_size()).name(), i);
      readers.push_back(*clients[i % 4]->Stream(request, /*prefetch=*/2));
    }
    // Not all of them get a first batch, because the burst ends before.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(streams > 100 ? 60 : 8);
    while (std::chrono::steady_clock::now() < end) {
      peak = std::max(peak, excess());
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
    for (const auto& reader : readers) reader->Cancel();
  }
  // Streams end when their generation notices that no reader is left. The ten seconds begin then.
  ASSERT_TRUE(WaitUntil(
      [&] { return HttpGet(metrics_address, "/metrics").find("\niterand_streams_open 0\n") != std::string::npos; }));
  std::this_thread::sleep_for(std::chrono::seconds(10));
  const double left = excess();
  EXPECT_LE(left, 64) << "megabytes beside the cache and idle streams; " << peak << " during the burst";
  RecordProperty("peak_megabytes", static_cast<int>(peak));
  RecordProperty("left_megabytes", static_cast<int>(left));
}

}  // namespace
}  // namespace iterand::testing
