// Random networks beside the LSTM: tokens/s of one core with everything that a round does (sampling the program,
// running its rows, choosing tokens). From them follow FLOP/s by the family's own estimate (Family::flops_per_token),
// as a share of the core's fp32 peak. The peak is measured again before each family.
//
//   bench/networks_bench [--target=AVX2] [--benchmark_filter=nca]
//   bench/networks_bench [--target=AVX2] --bounds    # what bounds each (bench/network_bounds.h), as a table
//
// Names: family / variant / rows.
#include <benchmark/benchmark.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench/network_bounds.h"
#include "bench/recurrent_round.h"
#include "bench/target_flag.h"
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
    {"reservoir/preset",
     R"({"reservoir": {"width": {"fixed": 256}, "emitted": {"log_uniform": {"low": 2, "high": 64}}}})", 8, 256, 512},
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
    {"transformer/sequential_32", R"({"transformer": {"mode": "SEQUENTIAL", "width": {"fixed": 32}}})", 8, 256, 512},
    {"transformer/paper",
     R"({"transformer": {"width": {"fixed": 384}, "layers": {"fixed": 0}, "heads": {"fixed": 32}}})", 1, 256, 512},
};

// A family and what a round of it needs.
class Round {
 public:
  explicit Round(const Case& network) : network_(network) {
    if (!google::protobuf::util::JsonStringToMessage(network.config, &config_).ok()) std::abort();
    const FamilyEntry& entry = *FindFamily(config_.kind_case());
    entry.Resolve(config_);
    family_ = *entry.Make(config_, {.alphabet = network_.alphabet, .length = network_.length}, "bench");
    program_ = family_->NewProgram(network_.rows);
    input_.Reshape(network_.rows, network_.length);
    out_.Reshape(network_.rows, network_.length);
    Rng noise(1, 2);
    for (int r = 0; r < network_.rows; ++r) {
      for (int t = 0; t < network_.length; ++t) {
        input_.row(r)[t] = static_cast<Symbol>(noise.Below(static_cast<std::uint32_t>(network_.alphabet)));
      }
    }
  }

  void Sample() {
    Rng rng = MakeRng(key_, Purpose::kSampleProgram);
    program_->Sample(rng);
  }

  void Run() {
    prompt_.Reshape(network_.rows, program_->prompt_length());
    for (int r = 0; r < network_.rows; ++r) std::copy_n(input_.row(r), program_->prompt_length(), prompt_.row(r));
    program_->Run(input_.view(), prompt_.view(), RowRng(key_), out_.mutable_view());
    benchmark::DoNotOptimize(out_.row(0));
  }

  void Next() { ++key_.round; }

  double tokens() const { return static_cast<double>(network_.rows) * network_.length; }
  double flops() const { return tokens() * family_->flops_per_token(); }
  const v1::Family& config() const { return config_; }
  const Case& network() const { return network_; }
  Program& program() { return *program_; }

 private:
  const Case& network_;
  v1::Family config_;
  std::unique_ptr<Family> family_;
  std::unique_ptr<Program> program_;
  Block input_;
  Block prompt_;
  Block out_;
  RandomKey key_;
};

void Rounds(benchmark::State& state, const Case& network) {
  Round round(network);
  std::vector<double> peaks(8);
  for (double& peak : peaks) peak = bench::MeasurePeak();
  for (auto _ : state) {
    round.Sample();
    round.Run();
    round.Next();
  }
  // An interruption can only lower a figure.
  const double peak = *std::max_element(peaks.begin(), peaks.end());
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["tokens/s"] = benchmark::Counter(iterations * round.tokens(), benchmark::Counter::kIsRate);
  state.counters["FLOP/s"] = benchmark::Counter(iterations * round.flops(), benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(iterations * round.flops() / peak, benchmark::Counter::kIsRate);
}

// ---- Bounds. ----

// The parts of the program that was sampled last.
std::vector<bench::Part> PartsOf(const bench::CoreSpeed& core, Round& round) {
  const Case& network = round.network();
  const v1::Family& config = round.config();
  Program& program = round.program();
  switch (config.kind_case()) {
    case v1::Family::kReservoir:
      return bench::ReservoirParts(core, static_cast<ReservoirProgram&>(program).net(), network.rows);
    case v1::Family::kMlpWindow:
      return bench::MlpWindowParts(core, static_cast<MlpWindowProgram&>(program), network.rows);
    case v1::Family::kTransformer: {
      const bool sequential = config.transformer().mode() == v1::Transformer::SEQUENTIAL;
      return bench::TransformerParts(core, static_cast<TransformerProgram&>(program), sequential, network.length,
                                     static_cast<int>(config.transformer().window()), network.alphabet);
    }
    case v1::Family::kNca: {
      const NcaNet net = static_cast<NcaProgram&>(program).net();
      // Of a token: all cells of all steps, of which the first frame takes none.
      const double cells = round.flops() / round.tokens() /
                           (net.positions() * net.features + 2.0 * net.hidden * (net.features + 1 + net.colours));
      return bench::NcaParts(core, net, cells);
    }
    default:
      return {};
  }
}

// Prints the measured share of a network, its bound, and what share of the bound's time each part takes.
void PrintBound(const bench::CoreSpeed& core, const Case& network) {
  constexpr int kPrograms = 16;
  Round round(network);
  std::vector<bench::Part> parts;
  double seconds = 0;
  double sampling = 0;
  for (int i = 0; i < kPrograms; ++i) {
    const double sample = bench::Fastest([&] { round.Sample(); });
    sampling += sample;
    seconds += sample + bench::Fastest([&] { round.Run(); });
    const std::vector<bench::Part> more = PartsOf(core, round);
    if (more.empty()) return;
    if (parts.empty()) parts.resize(more.size());
    for (std::size_t p = 0; p < more.size(); ++p) {
      parts[p].name = more[p].name;
      parts[p].seconds += more[p].seconds * round.tokens();
    }
    round.Next();
  }
  parts.push_back({"sampling", sampling});
  double total = 0;
  for (const bench::Part& part : parts) total += part.seconds;
  const double peak_seconds = kPrograms * round.flops() * core.flop;
  std::printf("%-26s %5.0f%% %5.0f%%  ", network.name, 100 * peak_seconds / seconds, 100 * peak_seconds / total);
  for (const bench::Part& part : parts) std::printf(" %s %.0f%%,", part.name.c_str(), 100 * part.seconds / total);
  std::printf("\b \n");
}

void PrintBounds() {
  const bench::CoreSpeed core;
  std::printf("peak %.0f GFLOP/s; fmas on memory at an index %.0f %%; %.2f ns per 8 tanh; %.0f GB/s from L2\n\n",
              1e-9 / core.flop, 100 * core.flop / core.indexed, 8e9 * core.tanh, 4e-9 / core.read);
  std::printf("%-26s %6s %6s   parts, of the bound's time\n", "network", "share", "bound");
  for (const Case& network : kCases) PrintBound(core, network);
}

}  // namespace
}  // namespace iterand

int main(int argc, char** argv) {
  if (!iterand::bench::TakeTargetFlag("networks_bench", argc, argv)) return 1;
  if (argc > 1 && std::string_view(argv[1]) == "--bounds") {
    iterand::PrintBounds();
    return 0;
  }
  for (const iterand::Case& network : iterand::kCases) {
    benchmark::RegisterBenchmark((std::string(network.name) + "/" + std::to_string(network.rows)).c_str(),
                                 iterand::Rounds, network)
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
