// How long clients of a busy server wait for their batches.
//
//   fairness_bench [--part gaps|first]... [--threads N]... [--seconds S] [--streams N] [--keep-reading]
//                  [--server PROGRAM]... [--json FILE]
//
//   gaps   The times between the batches of preset `markov`, read as fast as they come: alone (control), and beside a
//          stream whose rounds take tens of seconds (LSTM of 4 layers, hidden 1024, 56 rows per round), and beside
//          `threads` + 1 of those.
//   first  The times until the first batches of many streams of all presets, with a seed each, that are opened at once,
//          beside what the same streams take one after another on an idle server (`sum`, wall time with the server's
//          threads; the core seconds of both are given too). 400 streams take about ten minutes.
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
#include <set>
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

// A stream of the first part, and the seconds until its first batch.
struct FirstBatch {
  std::string preset;
  double alone = 0;     // on an idle server
  double together = 0;  // beside all other streams
};

// Streams of all presets in turn; stream i has seed i.
std::vector<FirstBatch> StreamsOfAllPresets(int streams) {
  std::vector<FirstBatch> batches(static_cast<std::size_t>(streams));
  for (std::size_t i = 0; i < batches.size(); ++i) {
    batches[i].preset = std::string(AllPresets()[i % AllPresets().size()].name);
  }
  return batches;
}

// Measures `alone` of every stream, one after another. Returns the server's core seconds until all first batches.
double MeasureAlone(const std::string& program, int threads, std::vector<FirstBatch>& batches) {
  const std::unique_ptr<ServerProcess> server = StartServer(program, threads);
  const std::unique_ptr<RpcClient> client = Connect(*server);
  double cores = 0;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const double core_before = CpuSecondsOf(server->pid());
    const Clock::time_point start = Clock::now();
    const std::unique_ptr<RemoteStream> reader = OpenStream(*client, PresetRequest(batches[i].preset, i));
    ReadBatch(*reader);
    batches[i].alone = SecondsSince(start);
    cores += CpuSecondsOf(server->pid()) - core_before;
    reader->Cancel();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // what it had in progress ends
    if ((i + 1) % AllPresets().size() == 0) {
      std::fprintf(stderr, "alone: %zu of %zu streams\n", i + 1, batches.size());
    }
  }
  return cores;
}

// Opens all streams at once and measures `together`. Returns the server's core seconds until all first batches.
double MeasureTogether(const std::string& program, int threads, bool keep_reading, std::vector<FirstBatch>& batches) {
  const std::unique_ptr<ServerProcess> server = StartServer(program, threads);
  std::vector<std::unique_ptr<RpcClient>> clients;
  for (std::size_t i = 0; i < batches.size(); i += kStreamsPerClient) clients.push_back(Connect(*server));
  std::atomic<bool> go = false;
  std::atomic<std::size_t> waiting = batches.size();
  std::vector<std::thread> readers;
  readers.reserve(batches.size());
  Clock::time_point start;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    readers.emplace_back([&, i] {
      go.wait(false);
      const std::unique_ptr<RemoteStream> reader =
          OpenStream(*clients[i % clients.size()], PresetRequest(batches[i].preset, i));
      ReadBatch(*reader);
      batches[i].together = SecondsSince(start);
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
  for (std::thread& reader : readers) reader.join();
  return cores;
}

// The presets whose first batch takes less than kCheapSeconds alone, as the median of their streams.
std::set<std::string> CheapPresets(const std::vector<FirstBatch>& batches) {
  std::map<std::string, std::vector<double>> seconds;
  for (const FirstBatch& batch : batches) seconds[batch.preset].push_back(batch.alone);
  std::set<std::string> cheap;
  for (auto& [preset, values] : seconds) {
    std::sort(values.begin(), values.end());
    if (Quantile(values, 0.5) < kCheapSeconds) cheap.insert(preset);
  }
  return cheap;
}

nlohmann::json RunFirst(const std::string& program, int threads, int streams, bool keep_reading) {
  std::vector<FirstBatch> batches = StreamsOfAllPresets(streams);
  const double cores_alone = MeasureAlone(program, threads, batches);
  const double cores = MeasureTogether(program, threads, keep_reading, batches);
  const std::set<std::string> cheap_presets = CheapPresets(batches);
  double sum = 0;
  for (const FirstBatch& batch : batches) sum += batch.alone;
  std::vector<double> all;
  std::vector<double> cheap;
  int late = 0;  // more than the sum allows
  nlohmann::json rows = nlohmann::json::array();
  for (const FirstBatch& batch : batches) {
    all.push_back(batch.together);
    if (batch.together > 1.2 * sum) ++late;
    if (cheap_presets.contains(batch.preset)) cheap.push_back(batch.together);
    rows.push_back({{"preset", batch.preset}, {"alone_s", batch.alone}, {"together_s", batch.together}});
  }
  std::sort(all.begin(), all.end());
  std::sort(cheap.begin(), cheap.end());
  std::printf("%8d %8d %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f %8.2f %6d | %5zu %9.3f %9.3f\n", threads, streams, sum,
              cores_alone, cores, Quantile(all, 0.5), Quantile(all, 0.9), all.back(), all.back() / sum, late,
              cheap.size(), Quantile(cheap, 0.5), cheap.empty() ? 0 : cheap.back());
  std::fflush(stdout);
  return {{"threads", threads},
          {"streams", streams},
          {"sum_s", sum},
          {"alone_core_s", cores_alone},
          {"together_core_s", cores},
          {"first_batches", rows},
          {"cheap_presets", cheap_presets},
          {"last_over_sum", all.back() / sum},
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
        std::printf("%8s %8s %9s %9s %9s %9s %9s %9s %8s %6s | %5s %9s %9s\n", "threads", "streams", "sum s",
                    "sum core", "core s", "p50 s", "p90 s", "last s", "/ sum", "late", "cheap", "p50 s", "last s");
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
