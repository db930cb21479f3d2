// How long clients of a busy server wait for their batches.
//
//   fairness_bench [--part gaps|first]... [--threads N]... [--seconds S] [--streams N] [--keep-reading]
//                  [--server PROGRAM]... [--json FILE]
//
//   gaps   The times between the batches of preset `markov`, read as fast as they come: alone (control), and beside a
//          stream whose rounds take tens of seconds (LSTM of 4 layers, hidden 1024, 56 rows per round), and beside
//          `threads` + 1 of those.
//   first  The times until the first batches of many streams of all presets, with a seed each, that are opened at once:
//          beside what they take one after another on an idle server (`sum`, in wall time with the server's threads).
//          With --keep-reading clients continue to read until all have their first batch.
//
// Each --server is measured in turn; the default is the program iterand of this build. The client takes core time as
// well, so figures on a machine of two cores are upper bounds.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "bench/process.h"
#include "clients/cpp/rpc_client.h"
#include "iterate/presets.h"

namespace iterand {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kHugeRounds[] = R"({"families": [{"lstm": {"layers": {"fixed": 4}, "hidden": {"fixed": 1024}}}],
    "length": 512, "chain": {"rows": {"fixed": 56}}})";

// A preset is cheap if its first batch takes less than this alone, in seconds.
constexpr double kCheapSeconds = 0.010;

// Streams that share a connection: servers allow a few hundred.
constexpr int kStreamsPerClient = 50;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

[[noreturn]] void Fail(const absl::Status& status) {
  std::cerr << status << "\n";
  std::exit(1);
}

std::uint64_t Seed(int i) { return static_cast<std::uint64_t>(i); }

// The value below which a share of the sorted `values` lies.
double Quantile(const std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::size_t>(share * static_cast<double>(values.size()));
  return values[std::min(at, values.size() - 1)];
}

std::unique_ptr<ServerProcess> StartServer(const std::string& program, int threads) {
  return std::make_unique<ServerProcess>(
      program, std::vector<std::string>{"serve", "--listen", "127.0.0.1:0", "--threads", std::to_string(threads),
                                        "--max-streams", "2000", "--log-level", "error"});
}

std::unique_ptr<RpcClient> Connect(const ServerProcess& server) {
  absl::StatusOr<std::unique_ptr<RpcClient>> client = RpcClient::Connect(server.address());
  if (!client.ok()) Fail(client.status());
  return *std::move(client);
}

v1::StreamRequest PresetRequest(const std::string& preset, std::uint64_t seed) {
  v1::StreamRequest request;
  request.mutable_stream()->set_preset(preset);
  request.mutable_stream()->set_seed(seed);
  return request;
}

std::unique_ptr<RemoteStream> OpenStream(RpcClient& client, const v1::StreamRequest& request) {
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client.Stream(request);
  if (!reader.ok()) Fail(reader.status());
  return *std::move(reader);
}

void ReadBatch(RemoteStream& reader) {
  Batch batch;
  if (!reader.Next(batch)) Fail(reader.status());
}

// ---- gaps ----------------------------------------------------------------------------------------------------------

struct Gaps {
  std::vector<double> seconds;  // sorted
  double batches_per_second = 0;
};

Gaps MeasureGaps(RemoteStream& reader, double seconds) {
  Gaps gaps;
  const Clock::time_point start = Clock::now();
  for (Clock::time_point before = start; SecondsSince(start) < seconds;) {
    ReadBatch(reader);
    gaps.seconds.push_back(SecondsSince(before));
    before = Clock::now();
  }
  gaps.batches_per_second = static_cast<double>(gaps.seconds.size()) / SecondsSince(start);
  std::sort(gaps.seconds.begin(), gaps.seconds.end());
  return gaps;
}

nlohmann::json RunGaps(const std::string& program, int threads, double seconds) {
  const std::unique_ptr<ServerProcess> server = StartServer(program, threads);
  const std::unique_ptr<RpcClient> client = Connect(*server);
  nlohmann::json report = nlohmann::json::array();
  double control_p99 = 0;
  for (const int huge : {0, 1, threads + 1}) {
    const std::unique_ptr<RemoteStream> markov = OpenStream(*client, PresetRequest("markov", Seed(huge)));
    ReadBatch(*markov);
    std::vector<std::unique_ptr<RemoteStream>> readers;
    for (int i = 0; i < huge; ++i) {
      v1::StreamRequest request;
      request.mutable_stream()->set_recipe_json(kHugeRounds);
      request.mutable_stream()->set_seed(Seed(i));
      readers.push_back(OpenStream(*client, request));
    }
    const double core_before = CpuSecondsOf(server->pid());
    const Clock::time_point start = Clock::now();
    const Gaps gaps = MeasureGaps(*markov, seconds);
    const double cores = (CpuSecondsOf(server->pid()) - core_before) / SecondsSince(start);
    const double p99 = Quantile(gaps.seconds, 0.99);
    if (huge == 0) control_p99 = p99;
    std::printf("%8d %6d %12.0f %10.1f %10.1f %10.1f %12.1f %8.2f\n", threads, huge, gaps.batches_per_second,
                1e3 * Quantile(gaps.seconds, 0.5), 1e3 * p99, 1e3 * gaps.seconds.back(), 1e3 * (p99 - control_p99),
                cores);
    std::fflush(stdout);
    report.push_back({{"threads", threads},
                      {"huge_streams", huge},
                      {"batches_per_second", gaps.batches_per_second},
                      {"p50_s", Quantile(gaps.seconds, 0.5)},
                      {"p99_s", p99},
                      {"max_s", gaps.seconds.back()},
                      {"p99_growth_s", p99 - control_p99},
                      {"server_cores", cores}});
    for (const auto& reader : readers) reader->Cancel();
  }
  return report;
}

// ---- first ---------------------------------------------------------------------------------------------------------

// Seconds until the first batch of each preset, alone on an idle server.
std::map<std::string, double> FirstBatchesAlone(const std::string& program, int threads) {
  const std::unique_ptr<ServerProcess> server = StartServer(program, threads);
  const std::unique_ptr<RpcClient> client = Connect(*server);
  std::map<std::string, double> alone;
  for (const PresetEntry& preset : AllPresets()) {
    std::vector<double> seconds;
    for (std::uint64_t seed = 1000; seed < 1003; ++seed) {
      const Clock::time_point start = Clock::now();
      const std::unique_ptr<RemoteStream> reader = OpenStream(*client, PresetRequest(std::string(preset.name), seed));
      ReadBatch(*reader);
      seconds.push_back(SecondsSince(start));
      reader->Cancel();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // what it had in progress ends
    }
    std::sort(seconds.begin(), seconds.end());
    alone[std::string(preset.name)] = seconds[1];
  }
  return alone;
}

nlohmann::json RunFirst(const std::string& program, int threads, int streams, bool keep_reading) {
  const std::map<std::string, double> alone = FirstBatchesAlone(program, threads);
  const std::unique_ptr<ServerProcess> server = StartServer(program, threads);
  std::vector<std::unique_ptr<RpcClient>> clients;
  for (int i = 0; i < streams; i += kStreamsPerClient) clients.push_back(Connect(*server));
  struct Result {
    std::string preset;
    double seconds = 0;
  };
  std::vector<Result> results(static_cast<std::size_t>(streams));
  std::atomic<bool> go = false;
  std::atomic<int> waiting = streams;
  std::vector<std::thread> threads_of_clients;
  double sum = 0;
  Clock::time_point start;
  for (std::size_t i = 0; i < results.size(); ++i) {
    results[i].preset = std::string(AllPresets()[i % AllPresets().size()].name);
    sum += alone.at(results[i].preset);
    threads_of_clients.emplace_back([&, i] {
      go.wait(false);
      const std::unique_ptr<RemoteStream> reader =
          OpenStream(*clients[i % clients.size()], PresetRequest(results[i].preset, i));
      ReadBatch(*reader);
      results[i].seconds = SecondsSince(start);
      --waiting;
      while (waiting > 0) {
        if (keep_reading) {
          ReadBatch(*reader);
        } else {
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double core_before = CpuSecondsOf(server->pid());
  start = Clock::now();
  go = true;
  go.notify_all();
  while (waiting > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const double cores = CpuSecondsOf(server->pid()) - core_before;
  for (std::thread& thread : threads_of_clients) thread.join();
  std::vector<double> all;
  std::vector<double> cheap;
  int late = 0;  // more than the sum allows
  for (const Result& result : results) {
    all.push_back(result.seconds);
    if (result.seconds > 1.2 * sum) ++late;
    if (alone.at(result.preset) < kCheapSeconds) cheap.push_back(result.seconds);
  }
  std::sort(all.begin(), all.end());
  std::sort(cheap.begin(), cheap.end());
  std::printf("%8d %8d %9.2f %9.2f %9.2f %9.2f %9.2f %8.2f %6d | %5zu %9.3f %9.3f\n", threads, streams, sum, cores,
              Quantile(all, 0.5), Quantile(all, 0.9), all.back(), all.back() / sum, late, cheap.size(),
              Quantile(cheap, 0.5), cheap.empty() ? 0 : cheap.back());
  std::fflush(stdout);
  return {{"threads", threads},    {"streams", streams},     {"sum_s", sum},     {"server_core_s", cores},
          {"seconds", all},        {"cheap_seconds", cheap}, {"alone_s", alone}, {"last_over_sum", all.back() / sum},
          {"later_than_1.2", late}};
}

}  // namespace
}  // namespace iterand

int main(int argc, char** argv) {
  CLI::App app("How long clients of a busy server wait for their batches");
  std::vector<std::string> parts = {"gaps", "first"};
  std::vector<int> threads = {1, 2};
  std::vector<std::string> servers;
  double seconds = 20;
  int streams = 400;
  bool keep_reading = false;
  std::string json_file;
  app.add_option("--part", parts)->check(CLI::IsMember({"gaps", "first"}));
  app.add_option("--threads", threads, "Of the server")->check(CLI::PositiveNumber);
  app.add_option("--seconds", seconds, "Of each measurement of gaps")->check(CLI::PositiveNumber);
  app.add_option("--streams", streams, "Opened at once")->check(CLI::Range(1, 1500));
  app.add_flag("--keep-reading", keep_reading, "After the first batch clients continue to read");
  app.add_option("--server", servers, "Programs iterand to measure")->check(CLI::ExistingFile);
  app.add_option("--json", json_file);
  CLI11_PARSE(app, argc, argv);
  if (servers.empty()) {
    const std::filesystem::path self = std::filesystem::canonical("/proc/self/exe");
    servers.push_back(self.parent_path().parent_path() / "clients" / "cli" / "iterand");
  }

  nlohmann::json report;
  for (const std::string& part : parts) {
    for (const std::string& server : servers) {
      std::printf("\n%s: %s\n", part.c_str(), server.c_str());
      if (part == "gaps") {
        std::printf("%8s %6s %12s %10s %10s %10s %12s %8s\n", "threads", "huge", "batches/s", "p50 ms", "p99 ms",
                    "max ms", "p99 grows ms", "cores");
      } else {
        std::printf("%8s %8s %9s %9s %9s %9s %9s %8s %6s | %5s %9s %9s\n", "threads", "streams", "sum s", "core s",
                    "p50 s", "p90 s", "last s", "/ sum", "late", "cheap", "p50 s", "last s");
      }
      for (const int count : threads) {
        report[server][part].push_back(part == "gaps" ? iterand::RunGaps(server, count, seconds)
                                                      : iterand::RunFirst(server, count, streams, keep_reading));
      }
    }
  }
  if (!json_file.empty()) std::ofstream(json_file) << report.dump(1) << "\n";
  return 0;
}
