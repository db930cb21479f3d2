// Measures one preset from outside: tokens/s and what they cost. bench/run calls it and makes tables.
//
//   preset_bench --preset NAME | --recipe JSON [--threads N] [--seconds S] [--server ADDRESS]
//
// Prints one JSON object: tokens_per_second, first_batch_s (64 sequences of the recipe's length, stream opened to batch
// in hand), flops_per_second, peak_flops (fused multiply-adds on registers, just before and after, on as many threads),
// peak_share, bytes_per_second, structured_share (zlib ratio 0.06 to 0.9 of the first sequences), peak_memory_bytes.
// With --server the sequences come from there and the FLOP figures are left out.
#include <omp.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "clients/cpp/rpc_client.h"
#include "iterate/presets.h"
#include "iterate/recipe_json.h"
#include "iterate/statistics.h"
#include "iterate/stream.h"
#include "randnet/base/fma_peak.h"

namespace {

using iterand::Stream;
using Clock = std::chrono::steady_clock;

constexpr int kBatchSize = 64;
constexpr std::size_t kStatisticsRows = 512;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// fp32 peak of `threads` cores together, FLOP/s.
double MeasurePeak(int threads) {
  double flops = 0;
  const auto start = Clock::now();
#pragma omp parallel num_threads(threads) reduction(+ : flops)
  flops += iterand::RunFmas(3'000'000);
  return flops / SecondsSince(start);
}

[[noreturn]] void Fail(const absl::Status& status) {
  std::fprintf(stderr, "preset_bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

struct Measured {
  double first_batch_s = 0;
  double tokens = 0;
  double bytes = 0;
  double seconds = 0;
};

// Reads batches for `seconds` or somewhat longer; `next` fills a batch's bytes and returns its numbers of rows and
// tokens. The clock starts and stops where `whole` says that nothing is left of what was made for earlier batches.
template <typename Next, typename Whole, typename Look>
Measured Measure(Clock::time_point opened, double seconds, const Next& next, const Whole& whole, const Look& look) {
  Measured measured;
  for (int rows = 0; rows < kBatchSize;) {
    const auto view = next();
    look(view);
    rows += view.rows;
  }
  measured.first_batch_s = SecondsSince(opened);
  while (!whole()) look(next());
  const auto start = Clock::now();
  while (measured.seconds < seconds || !whole()) {
    const auto view = next();
    look(view);
    measured.tokens += view.tokens;
    measured.bytes += static_cast<double>(view.size);
    measured.seconds = SecondsSince(start);
  }
  return measured;
}

struct View {
  const void* data;
  std::size_t size;
  int rows;
  double tokens;
};

// Where a measurement is in its stream. Whole segments are made, of all lanes in turn: the sequences that follow a
// batch cost nothing. So a measurement begins and ends where the segments of all lanes do.
struct Position {
  explicit Position(const Stream& stream)
      : cycle(static_cast<std::uint64_t>(stream.lanes()) * static_cast<std::uint64_t>(stream.segment_sequences())) {}
  bool whole() const { return index % cycle == 0; }

  std::uint64_t cycle;      // sequences of one segment of each lane
  std::uint64_t index = 0;  // after what was read
};

using Look = std::function<void(const View&)>;

Measured MeasureHere(const Stream& described, int threads, double seconds, const Look& look) {
  const auto opened = Clock::now();
  auto stream = Stream::Open(described.recipe(), 0);
  (*stream)->set_threads(threads);
  std::vector<std::byte> buffer(kBatchSize * (*stream)->sequence_bytes());
  Position position(**stream);
  const auto next = [&]() -> View {
    const std::uint64_t to_cycle = position.cycle - position.index % position.cycle;
    const int rows = position.index > 0 && to_cycle < kBatchSize ? static_cast<int>(to_cycle) : kBatchSize;
    if (absl::Status s = (*stream)->Read({.first_index = position.index, .rows = rows}, buffer); !s.ok()) Fail(s);
    position.index += static_cast<std::uint64_t>(rows);
    return {buffer.data(), static_cast<std::size_t>(rows) * (*stream)->sequence_bytes(), rows,
            static_cast<double>(rows) * (*stream)->length()};
  };
  return Measure(opened, seconds, next, [&] { return position.whole(); }, look);
}

Measured MeasureServed(const Stream& described, const std::string& server, double seconds, const Look& look) {
  auto client = iterand::RpcClient::Connect(server);
  if (!client.ok()) Fail(client.status());
  const auto opened = Clock::now();
  iterand::v1::StreamRequest request;
  *request.mutable_stream()->mutable_recipe() = described.recipe();
  Position position(described);
  // So that batches end where the segments of all lanes do.
  std::uint64_t batch_size = kBatchSize;
  while (position.cycle % batch_size != 0) --batch_size;
  request.set_batch_size(static_cast<std::uint32_t>(batch_size));
  auto reader = (*client)->Stream(request);
  if (!reader.ok()) Fail(reader.status());
  iterand::Batch batch;
  const auto next = [&]() -> View {
    if (!(*reader)->Next(batch)) Fail((*reader)->status());
    position.index += static_cast<std::uint64_t>(batch.rows());
    return {batch.tokens().data(), batch.token_bytes(), batch.rows(),
            static_cast<double>(batch.rows()) * batch.length()};
  };
  return Measure(opened, seconds, next, [&] { return position.whole(); }, look);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures one preset");
  std::string preset = "up";
  std::string json;
  std::string server;
  int threads = 1;
  double seconds = 1;
  CLI::Option* name = app.add_option("--preset", preset);
  app.add_option("--recipe", json, "Text of a recipe instead")->excludes(name);
  app.add_option("--server", server);
  app.add_option("--threads", threads);
  app.add_option("--seconds", seconds);
  CLI11_PARSE(app, argc, argv);

  auto recipe = json.empty() ? iterand::LoadPreset(preset) : iterand::ParseRecipeJson(json);
  if (!recipe.ok()) Fail(recipe.status());
  auto stream = Stream::Open(*recipe, 0);
  if (!stream.ok()) Fail(stream.status());
  iterand::StatisticsCollector statistics((*stream)->dtype(), (*stream)->length(), (*stream)->recipe().vocab_size());
  std::size_t looked = 0;
  std::vector<std::byte> kept;  // first sequences, judged after the clock has stopped
  const auto look = [&](const View& batch) {
    if (looked >= kStatisticsRows * (*stream)->sequence_bytes()) return;
    const auto* data = static_cast<const std::byte*>(batch.data);
    kept.insert(kept.end(), data, data + batch.size);
    looked += batch.size;
  };

  nlohmann::json result = {{"preset", json.empty() ? preset : "recipe"}, {"threads", threads}};
  Measured measured;
  if (server.empty()) {
    const double peak_before = MeasurePeak(threads);
    measured = MeasureHere(**stream, threads, seconds, look);
    const double peak = (peak_before + MeasurePeak(threads)) / 2;
    const double flops = (*stream)->Cost().flops_per_token * measured.tokens / measured.seconds;
    result["flops_per_second"] = flops;
    result["peak_flops"] = peak;
    result["peak_share"] = flops / peak;
  } else {
    measured = MeasureServed(**stream, server, seconds, look);
  }
  statistics.Add(kept.data(), static_cast<int>(kept.size() / (*stream)->sequence_bytes()));
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  result["tokens_per_second"] = measured.tokens / measured.seconds;
  result["bytes_per_second"] = measured.bytes / measured.seconds;
  result["first_batch_s"] = measured.first_batch_s;
  result["structured_share"] = statistics.Summary().structured_share;
  result["peak_memory_bytes"] = usage.ru_maxrss * 1024.0;
  std::printf("%s\n", result.dump().c_str());
  return 0;
}
