// What serving costs: throughput of the wire and of the engine, measured beside what they are compared with in one run.
//
//   serve_bench [--seconds S] [--repeats N] [--part wire|serving|trainer]... [--batch-size N]... [--preset P]...
//               [--json FILE]
//
//   wire      equal messages: a bare gRPC server that sends one ready-made message again and again and a client that
//             counts its bytes, against preset `markov` from the server's cache, as the second run of a sweep has it,
//             and preset `uniform`, the cheapest, which is generated on cores that it shares with both ends of the
//             wire. The one message stays in the processor's cache; what memory costs is shown by the bare server once
//             more with as many ready-made messages, in turn, as our cache holds. Servers are processes of their own.
//             Alternating, medians.
//   serving   presets `lstm`, which computes, and `up-statistics`, which the wire limits, in this process with one
//             thread and with two, and served by two. Alternating, medians of the same sequences.
//   trainer   a consumer that takes batches of these, with some received ahead, at half the rate that is served and, if
//             that is more than trainers take, at ten million tokens per second: the share of its time that it waits.
//   serve_bench --serve-bare    the bare server alone, for clients in other languages: bench/wire.py
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/bare_stream.h"
#include "bench/process.h"
#include "clients/cli/run_until_signal.h"
#include "clients/cpp/rpc_client.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/presets.h"
#include "iterate/stream.h"
#include "server/server.h"

namespace iterand {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kWirePreset[] = "uniform";

// The cheapest preset whose segments are worth keeping in the cache.
constexpr char kCachedPreset[] = "markov";

// Tokens per second, more than trainers take.
constexpr double kTrainerRate = 1e7;

// What the trainer's client receives ahead: 8 batches, as the Python client does, or what it takes in this time. A core
// of a busy machine may be away for several milliseconds.
constexpr int kPrefetch = 8;
constexpr double kPrefetchSeconds = 0.02;
constexpr double kBatchTokens = 64 * 512;

// 100 MB of tokens: what the server's cache holds.
constexpr std::uint64_t kCachedSequences = 200'000;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

[[noreturn]] void Fail(const absl::Status& status) {
  std::cerr << "serve_bench: " << status << "\n";
  std::exit(1);
}

v1::StreamRequest Request(const std::string& preset, int batch_size, std::uint64_t seed = 0) {
  v1::StreamRequest request;
  request.mutable_stream()->set_preset(preset);
  request.mutable_stream()->set_seed(seed);
  request.set_batch_size(static_cast<std::uint32_t>(batch_size));
  return request;
}

int ServeIterand() {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  const absl::Status status = cli::RunUntilSignal(options, std::cout);
  return status.ok() ? 0 : 1;
}

// What was moved, per second and per second of core time. The latter shows what a busy machine hides.
struct Rate {
  double per_second = 0;
  double per_core_second = 0;
  double first_batch_seconds = 0;
};

Rate MedianRate(const std::vector<Rate>& rates) {
  std::vector<double> a;
  std::vector<double> b;
  std::vector<double> c;
  for (const Rate& rate : rates) {
    a.push_back(rate.per_second);
    b.push_back(rate.per_core_second);
    c.push_back(rate.first_batch_seconds);
  }
  return {Median(a), Median(b), Median(c)};
}

// ---- Measurements: bytes of messages or tokens per second ----------------------------------------------------------

Rate BareBytes(const ServerProcess& server, int batch_size, std::uint64_t sequences, double seconds) {
  const Process client({"--bare-client", server.address(), "--server-pid", std::to_string(server.pid()), "--batch-size",
                        std::to_string(batch_size), "--sequences", std::to_string(sequences), "--seconds",
                        std::to_string(seconds)});
  Rate rate;
  if (!(std::istringstream(client.line()) >> rate.per_second >> rate.per_core_second)) {
    Fail(absl::UnavailableError("the bare client measured nothing"));
  }
  return rate;
}

std::uint64_t Period(const Stream& stream) {
  return static_cast<std::uint64_t>(stream.lanes()) * static_cast<std::uint64_t>(stream.segment_sequences());
}

// When a measurement ends: after this many segments of every lane, after this many seconds, or at the stream's end.
struct Until {
  int segments = std::numeric_limits<int>::max();
  double seconds = std::numeric_limits<double>::infinity();
};

// Tokens of a stream. From the first batch of a segment of every lane to the first of another: at these moments the
// engine has done the same work ahead.
Rate ServedTokens(const ServerProcess& server, RpcClient& client, const v1::StreamRequest& request,
                  const Until& until) {
  const absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(*LoadPreset(request.stream().preset()), 0);
  if (!stream.ok()) Fail(stream.status());
  const std::uint64_t period = Period(**stream);
  const Clock::time_point begin = Clock::now();
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client.Stream(request);
  if (!reader.ok()) Fail(reader.status());
  Batch batch;
  Rate rate;
  Clock::time_point start;
  std::optional<CpuMeter> cpu;
  double tokens = 0;
  int segments = -1;
  for (std::uint64_t batches = 0;; ++batches) {
    const bool more = (*reader)->Next(batch);
    if (!(*reader)->status().ok()) Fail((*reader)->status());
    if (batches == 0) rate.first_batch_seconds = SecondsSince(begin);
    const bool at_boundary = !more || (batches > 0 && batch.first_index() % period < request.batch_size());
    if (at_boundary && !cpu) {
      start = Clock::now();
      cpu.emplace(server.pid());
    }
    if (at_boundary) ++segments;
    if (at_boundary && (!more || segments == until.segments || SecondsSince(start) >= until.seconds)) break;
    if (cpu) tokens += static_cast<double>(batch.rows()) * batch.length();
  }
  rate.per_second = tokens / SecondsSince(start);
  rate.per_core_second = tokens / cpu->Seconds();
  return rate;
}

// Segments 2 to `segments` + 1 of every lane: the same sequences for all, as segments differ in cost. When a reader has
// the first batch of one segment of every lane, those segments are all made. The time between two such moments is
// therefore that of making as many others.
Rate InProcessSegments(const std::string& preset, std::uint64_t seed, int segments, int threads) {
  const absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(*LoadPreset(preset), seed);
  if (!stream.ok()) Fail(stream.status());
  (*stream)->set_threads(threads);
  const std::uint64_t rows = Period(**stream);
  std::vector<std::byte> out(rows * (*stream)->sequence_bytes());
  const auto read = [&](int i) {
    const absl::Status status =
        (*stream)->Read({.first_index = static_cast<std::uint64_t>(i) * rows, .rows = static_cast<int>(rows)}, out);
    if (!status.ok()) Fail(status);
  };
  read(1);
  const CpuMeter cpu(0);
  const Clock::time_point start = Clock::now();
  for (int i = 2; i < 2 + segments; ++i) read(i);
  const double tokens = static_cast<double>(rows) * segments * (*stream)->length();
  return {tokens / SecondsSince(start), tokens / cpu.Seconds()};
}

struct Waiting {
  double share = 0;  // of the time, after the first batch
  double longest_seconds = 0;
  double first_batch_seconds = 0;
  int batches = 0;
};

Waiting WaitingShare(RpcClient& client, const v1::StreamRequest& request, int prefetch, double tokens_per_second,
                     double seconds) {
  Waiting waiting;
  const Clock::time_point begin = Clock::now();
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client.Stream(request, prefetch);
  if (!reader.ok()) Fail(reader.status());
  Batch batch;
  if (!(*reader)->Next(batch)) Fail((*reader)->status());
  waiting.first_batch_seconds = SecondsSince(begin);
  const Clock::duration step = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(batch.rows() * static_cast<double>(batch.length()) / tokens_per_second));
  const Clock::time_point start = Clock::now();
  double waited = 0;
  while (SecondsSince(start) < seconds) {
    std::this_thread::sleep_for(step);  // the training step
    const Clock::time_point ask = Clock::now();
    if (!(*reader)->Next(batch)) Fail((*reader)->status());
    const double wait = SecondsSince(ask);
    waited += wait;
    waiting.longest_seconds = std::max(waiting.longest_seconds, wait);
    ++waiting.batches;
  }
  waiting.share = waited / SecondsSince(start);
  return waiting;
}

nlohmann::json ToJson(const Rate& rate) {
  return {{"per_second", rate.per_second}, {"per_core_second", rate.per_core_second}};
}

// The cached stream, from its beginning to its end again and again.
Rate CachedTokens(const ServerProcess& server, RpcClient& client, const v1::StreamRequest& whole, double seconds) {
  std::vector<Rate> rates;
  const Clock::time_point start = Clock::now();
  do {
    rates.push_back(ServedTokens(server, client, whole, Until{}));
  } while (SecondsSince(start) < seconds);
  return MedianRate(rates);
}

nlohmann::json MeasureWire(const std::vector<int>& batch_size, double seconds, int repeats) {
  const ServerProcess bare("--serve-bare");
  const ServerProcess iterand("--serve-iterand");
  const auto client = RpcClient::Connect(iterand.address());
  if (!client.ok()) Fail(client.status());
  std::printf(
      "wire: MB/s, MB per second of core time (both processes), and their ratios to the bare server's; bare with many "
      "messages, %s from the cache, %s generated\n",
      kCachedPreset, kWirePreset);
  std::printf("%10s %9s | %9s %9s", "batch rows", "bytes", "bare", "per core");
  for (const char* what : {"many", "cached", "generated"}) {
    std::printf(" | %9s %9s %7s %7s", what, "per core", "ratio", "ratio");
  }
  std::printf("\n");
  nlohmann::json report = nlohmann::json::array();
  for (const int rows : batch_size) {
    v1::StreamRequest whole = Request(kCachedPreset, rows, 1000);
    whole.set_count(kCachedSequences);
    ServedTokens(iterand, **client, whole, Until{});
    std::vector<Rate> bare_rates;
    std::vector<Rate> many_rates;
    std::vector<Rate> cached_rates;
    std::vector<Rate> generated_rates;
    for (int i = 0; i < repeats; ++i) {
      bare_rates.push_back(BareBytes(bare, rows, 0, seconds));
      cached_rates.push_back(CachedTokens(iterand, **client, whole, seconds));
      many_rates.push_back(BareBytes(bare, rows, kCachedSequences, seconds));
      bare_rates.push_back(BareBytes(bare, rows, 0, seconds));
      // A seed of its own, so that nothing comes from the cache.
      const v1::StreamRequest fresh = Request(kWirePreset, rows, static_cast<std::uint64_t>(rows + i));
      generated_rates.push_back(ServedTokens(iterand, **client, fresh, Until{.seconds = seconds}));
    }
    const Rate base = MedianRate(bare_rates);
    const Rate many = MedianRate(many_rates);
    const Rate cached = MedianRate(cached_rates);
    const Rate generated = MedianRate(generated_rates);
    std::printf("%10d %9d | %9.0f %9.0f", rows, rows * 512, base.per_second * 1e-6, base.per_core_second * 1e-6);
    for (const Rate& rate : {many, cached, generated}) {
      std::printf(" | %9.0f %9.0f %7.2f %7.2f", rate.per_second * 1e-6, rate.per_core_second * 1e-6,
                  rate.per_second / base.per_second, rate.per_core_second / base.per_core_second);
    }
    std::printf("\n");
    std::fflush(stdout);
    report.push_back({{"batch_size", rows},
                      {"bare_bytes", ToJson(base)},
                      {"bare_many_bytes", ToJson(many)},
                      {"cached_bytes", ToJson(cached)},
                      {"generated_bytes", ToJson(generated)}});
  }
  return report;
}

nlohmann::json MeasureServing(const std::vector<std::string>& presets, double seconds, int repeats) {
  const ServerProcess iterand("--serve-iterand");
  const auto client = RpcClient::Connect(iterand.address());
  if (!client.ok()) Fail(client.status());
  std::printf("\nserving: tokens/s\n%12s %12s %12s %9s | %12s %12s %16s\n", "preset", "1 thread", "2 threads",
              "scaling", "served", "of 2 threads", "first batch s");
  nlohmann::json report = nlohmann::json::array();
  for (const std::string& preset : presets) {
    const absl::StatusOr<std::shared_ptr<Stream>> stream = Stream::Open(*LoadPreset(preset), 0);
    if (!stream.ok()) Fail(stream.status());
    const double tokens_a_segment = static_cast<double>(Period(**stream)) * (*stream)->length();
    const double quick = InProcessSegments(preset, 1000, 2, 2).per_second;
    const int segments = std::max(2, static_cast<int>(2 * seconds * quick / tokens_a_segment));
    std::vector<Rate> one_rates;
    std::vector<Rate> two_rates;
    std::vector<Rate> served_rates;
    for (int i = 0; i < repeats; ++i) {
      const auto seed = static_cast<std::uint64_t>(i);
      one_rates.push_back(InProcessSegments(preset, seed, segments, 1));
      two_rates.push_back(InProcessSegments(preset, seed, segments, 2));
      served_rates.push_back(ServedTokens(iterand, **client, Request(preset, 64, seed), Until{.segments = segments}));
    }
    const Rate one = MedianRate(one_rates);
    const Rate two = MedianRate(two_rates);
    const Rate served = MedianRate(served_rates);
    std::printf("%12s %12.0f %12.0f %9.3f | %12.0f %12.3f %16.3f\n", preset.c_str(), one.per_second, two.per_second,
                two.per_second / one.per_second, served.per_second, served.per_second / two.per_second,
                served.first_batch_seconds);
    std::fflush(stdout);
    report.push_back({{"preset", preset},
                      {"one_thread_tokens", ToJson(one)},
                      {"two_threads_tokens", ToJson(two)},
                      {"served_tokens", ToJson(served)},
                      {"first_batch_s", served.first_batch_seconds}});
  }
  return report;
}

nlohmann::json MeasureTrainer(const std::vector<std::string>& presets, double seconds) {
  const ServerProcess iterand("--serve-iterand");
  const auto client = RpcClient::Connect(iterand.address());
  if (!client.ok()) Fail(client.status());
  std::printf("\ntrainer, at half of the served rate and at ten million tokens/s\n%12s %12s %12s %12s %12s %14s %16s\n",
              "preset", "tokens/s", "ahead", "batches", "wait share", "longest wait s", "first batch s");
  nlohmann::json report = nlohmann::json::array();
  for (const std::string& preset : presets) {
    const double served = ServedTokens(iterand, **client, Request(preset, 64), Until{.segments = 4}).per_second;
    std::vector<double> rates = {0.5 * served};
    if (rates[0] > kTrainerRate) rates.push_back(kTrainerRate);
    for (const double rate : rates) {
      const int ahead = std::max(kPrefetch, static_cast<int>(kPrefetchSeconds * rate / kBatchTokens));
      const Waiting waiting = WaitingShare(**client, Request(preset, 64, 99), ahead, rate, 10 * seconds);
      std::printf("%12s %12.0f %12d %12d %12.4f %14.4f %16.3f\n", preset.c_str(), rate, ahead, waiting.batches,
                  waiting.share, waiting.longest_seconds, waiting.first_batch_seconds);
      std::fflush(stdout);
      report.push_back({{"preset", preset},
                        {"tokens_per_second", rate},
                        {"prefetch", ahead},
                        {"wait_share", waiting.share},
                        {"longest_wait_s", waiting.longest_seconds}});
    }
  }
  return report;
}

}  // namespace
}  // namespace iterand

int main(int argc, char** argv) {
  CLI::App app("What serving costs");
  double seconds = 1;
  int repeats = 5;
  std::vector<std::string> parts = {"wire", "serving", "trainer"};
  std::vector<int> batch_size = {64, 512, 2048};
  std::vector<std::string> presets = {"lstm", "up-statistics"};
  std::string json_file;
  bool serve_bare = false;
  bool serve_iterand = false;
  app.add_option("--seconds", seconds, "Of each measurement")->check(CLI::PositiveNumber);
  app.add_option("--repeats", repeats)->check(CLI::PositiveNumber);
  app.add_option("--part", parts)->check(CLI::IsMember(parts));
  app.add_option("--batch-size", batch_size, "Of part wire")->check(CLI::PositiveNumber);
  app.add_option("--preset", presets, "Of parts serving and trainer")->check([](const std::string& name) {
    return std::string(iterand::LoadPreset(name).status().message());
  });
  app.add_option("--json", json_file);
  app.add_flag("--serve-bare", serve_bare);
  app.add_flag("--serve-iterand", serve_iterand)->group("");
  iterand::BareClient bare_client;
  app.add_option("--bare-client", bare_client.address)->group("");
  app.add_option("--server-pid", bare_client.server)->group("");
  app.add_option("--sequences", bare_client.sequences)->group("");
  CLI11_PARSE(app, argc, argv);
  if (serve_bare) return iterand::ServeBare();
  if (serve_iterand) return iterand::ServeIterand();
  bare_client.batch_size = batch_size.front();
  bare_client.seconds = seconds;
  if (!bare_client.address.empty()) return iterand::TakeBareBytes(bare_client);

  const auto wanted = [&](const char* part) { return std::find(parts.begin(), parts.end(), part) != parts.end(); };
  nlohmann::json report = {{"cores", std::thread::hardware_concurrency()}};
  if (wanted("wire")) report["wire"] = iterand::MeasureWire(batch_size, seconds, repeats);
  if (wanted("serving")) report["serving"] = iterand::MeasureServing(presets, seconds, repeats);
  if (wanted("trainer")) report["trainer"] = iterand::MeasureTrainer(presets, seconds);
  if (!json_file.empty()) std::ofstream(json_file) << report.dump(1) << "\n";
  return 0;
}
