// Random networks beside the LSTM: tokens/s of one core with everything that a round does (sampling the program,
// running its rows, choosing tokens), and the FLOP/s that the family's own estimate (Family::flops_per_token) makes of
// it, as a share of the core's fp32 peak, measured again before each family.
//
//   bench/networks_bench --benchmark_filter=nca
//
// Names: family / variant / rows.
#include <benchmark/benchmark.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "randnet/base/fma_peak.h"
#include "randnet/base/rng.h"
#include "randnet/family.h"

namespace iterand {
namespace {

struct Case {
  const char* name;
  const char* config;
  int rows;
  int alphabet;
  int length;
};

constexpr Case kCases[] = {
    {"reservoir/width_256", R"({"reservoir": {"width": {"fixed": 256}}})", 8, 256, 512},
    {"reservoir/paper", R"({"reservoir": {}})", 104, 256, 512},
    {"nca/paper", R"({"nca": {}})", 8, 10002, 1024},
    {"nca/argmax", R"({"nca": {"temperature": {"fixed": 0}}})", 8, 10002, 1024},
    {"nca/bytes",
     R"({"nca": {"height": 1, "width": 32, "colours": {"fixed": 256}, "warm_up": {"fixed": 0}, "frame_marks": false, "start": "INPUT"}})",
     8, 256, 512},
    {"mlp_window/default", R"({"mlp_window": {}})", 8, 256, 512},
    {"state_space/default", R"({"state_space": {}})", 8, 256, 512},
    {"transformer/default", R"({"transformer": {}})", 8, 256, 512},
    {"transformer/sequential", R"({"transformer": {"mode": "SEQUENTIAL"}})", 8, 256, 512},
    {"transformer/paper",
     R"({"transformer": {"width": {"fixed": 384}, "layers": {"fixed": 0}, "heads": {"fixed": 32}}})", 1, 256, 512},
};

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// FLOP/s of the core now: the best of a few short runs, since an interruption can only lower a figure.
double MeasurePeak() {
  double best = 0;
  for (int i = 0; i < 8; ++i) {
    const double begin = Seconds();
    const double flops = RunFmas(100000);
    best = std::max(best, flops / (Seconds() - begin));
  }
  return best;
}

void Rounds(benchmark::State& state, const Case& network) {
  v1::Family config;
  if (!google::protobuf::util::JsonStringToMessage(network.config, &config).ok()) {
    state.SkipWithError("configuration");
    return;
  }
  const FamilyEntry& entry = *FindFamily(config.kind_case());
  entry.Resolve(config);
  const auto family = entry.Make(config, {.alphabet = network.alphabet, .length = network.length}, "bench");
  const auto program = (*family)->NewProgram(network.rows);
  Block input;
  Block prompt;
  Block out;
  input.Reshape(network.rows, network.length);
  out.Reshape(network.rows, network.length);
  Rng noise(1, 2);
  for (int r = 0; r < network.rows; ++r) {
    for (int t = 0; t < network.length; ++t) {
      input.row(r)[t] = static_cast<Symbol>(noise.Below(static_cast<std::uint32_t>(network.alphabet)));
    }
  }
  RandomKey key;
  const double peak = MeasurePeak();
  for (auto _ : state) {
    Rng rng = MakeRng(key, Purpose::kSampleProgram);
    program->Sample(rng);
    prompt.Reshape(network.rows, program->prompt_length());
    for (int r = 0; r < network.rows; ++r) std::copy_n(input.row(r), program->prompt_length(), prompt.row(r));
    program->Run(input.view(), prompt.view(), RowRng(key), out.mutable_view());
    benchmark::DoNotOptimize(out.row(0));
    ++key.round;
  }
  const double tokens = static_cast<double>(state.iterations()) * network.rows * network.length;
  state.counters["tokens/s"] = benchmark::Counter(tokens, benchmark::Counter::kIsRate);
  state.counters["FLOP/s"] = benchmark::Counter(tokens * (*family)->flops_per_token(), benchmark::Counter::kIsRate);
  state.counters["of_peak"] =
      benchmark::Counter(tokens * (*family)->flops_per_token() / peak, benchmark::Counter::kIsRate);
}

}  // namespace
}  // namespace iterand

int main(int argc, char** argv) {
  for (const iterand::Case& network : iterand::kCases) {
    benchmark::RegisterBenchmark((std::string(network.name) + "/" + std::to_string(network.rows)).c_str(),
                                 iterand::Rounds, network)
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
