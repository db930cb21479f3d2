// Kernels of randnet: recurrent networks and random numbers, beside the core's own peak.
//
//   FmaPeak        fp32 fused multiply-adds on registers alone: what "peak" means below.
//   Lstm/...       tokens/s, FLOP/s and their share of the peak, with everything that a round does: sampling the
//   program, tables,
//                  gates, choosing tokens. FLOPs are those of the matrix products that run at each token; gates, tables
//                  and sampling count as none. All figures are of the fastest tenth of the rounds, beside the fastest
//                  tenth of the peak's measurements between them, so that what else runs on the machine disturbs both
//                  alike. `sample` is the share of sampling in a round's time; `median_tokens/s` is of the median
//                  round.
//   Rng/...        values/s of the vector random streams.
//
// Names of shapes: layers x hidden / rows.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "randnet/family.h"
#include "randnet/fma_peak.h"
#include "randnet/rng.h"

namespace iterand {
namespace {

constexpr int kPromptLength = 8;
constexpr int kAlphabet = 256;

// Time that this thread ran, so that a preempted round does not count what others did meanwhile.
double Seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// FLOP/s of the core now, over some 0.1 ms.
double MeasurePeak() {
  const double begin = Seconds();
  const double flops = RunFmas(50000);
  return flops / (Seconds() - begin);
}

// The value below which `share` of the values lie.
double Quantile(std::vector<double>& values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

struct Shape {
  int layers;
  int hidden;
  int rows;
  int length;
  double factor;
  double embedding_scale;
};

class Round {
 public:
  explicit Round(const Shape& shape) : shape_(shape) {
    v1::Family config;
    v1::Lstm& lstm = *config.mutable_lstm();
    lstm.mutable_layers()->set_fixed(shape.layers);
    lstm.mutable_hidden()->set_fixed(shape.hidden);
    lstm.mutable_weight_factor()->set_fixed(shape.factor);
    lstm.mutable_embedding_scale()->set_fixed(shape.embedding_scale);
    const FamilyEntry* entry = FindFamily(v1::Family::kLstm);
    entry->resolve(config);
    family_ = *entry->make(config, {.alphabet = kAlphabet, .length = shape.length}, "bench");
    program_ = family_->NewProgram(shape.rows);
    input_.Reshape(shape.rows, shape.length);
    Rng rng(1, 2);
    for (int r = 0; r < shape.rows; ++r) {
      for (int t = 0; t < shape.length; ++t) input_.row(r)[t] = static_cast<Symbol>(rng.Below(kAlphabet));
    }
    prompt_.Reshape(shape.rows, kPromptLength);
    output_.Reshape(shape.rows, shape.length);
    Sample();
  }

  void Sample() {
    Rng rng = MakeRng({.round = round_++}, Purpose::kSampleProgram);
    program_->Sample(rng);
  }

  void Run() {
    program_->Run(input_.view(), prompt_.view(), RowRng({}), output_.mutable_view());
    benchmark::DoNotOptimize(output_.row(0)[shape_.length - 1]);
  }

  double tokens() const { return static_cast<double>(shape_.rows) * shape_.length; }

  // Of the matrix products that run: the last token is not read, and no logits are made while the prompt is.
  double flops() const {
    const double hidden = shape_.hidden;
    const double layers = 2 * 4 * hidden * hidden * (2 * shape_.layers - 1);
    const double output = 2 * hidden * kAlphabet;
    return shape_.rows * ((shape_.length - 1) * layers + (shape_.length - kPromptLength) * output);
  }

 private:
  Shape shape_;
  std::unique_ptr<Family> family_;
  std::unique_ptr<Program> program_;
  Block input_;
  Block prompt_;
  Block output_;
  std::uint64_t round_ = 0;
};

void BM_FmaPeak(benchmark::State& state) {
  double flops = 0;
  for (auto _ : state) flops += RunFmas(10000);
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsRate);
}
BENCHMARK(BM_FmaPeak)->Name("FmaPeak");

void BM_Lstm(benchmark::State& state, const Shape& shape) {
  Round round(shape);
  round.Run();
  std::vector<double> seconds;
  std::vector<double> samples;
  std::vector<double> peaks;
  for (auto _ : state) {
    const double begin = Seconds();
    round.Sample();
    const double sampled = Seconds();
    round.Run();
    const double end = Seconds();
    seconds.push_back(end - begin);
    samples.push_back(sampled - begin);
    state.SetIterationTime(end - begin);
    peaks.push_back(MeasurePeak());
  }
  const double fast = Quantile(seconds, 0.1);
  state.counters["tokens/s"] = round.tokens() / fast;
  state.counters["median_tokens/s"] = round.tokens() / Quantile(seconds, 0.5);
  state.counters["FLOP/s"] = round.flops() / fast;
  state.counters["peak_share"] = round.flops() / fast / Quantile(peaks, 0.9);
  state.counters["sample"] = Quantile(samples, 0.1) / fast;
}

// The paper's rows are cut to 16 tokens, so that a round is short beside the scheduler's slices.
constexpr Shape kPaper{4, 128, 104, 16, 2.0, 1.0};
constexpr Shape kSmall[] = {{1, 32, 6, 512, 6.0, 0.1}, {2, 32, 6, 512, 6.0, 0.1}, {2, 32, 7, 512, 6.0, 0.1},
                            {2, 32, 8, 512, 6.0, 0.1}, {1, 64, 6, 512, 6.0, 0.1}, {1, 64, 8, 512, 6.0, 0.1},
                            {2, 64, 6, 512, 6.0, 0.1}, {2, 64, 8, 512, 6.0, 0.1}};

void RegisterAll() {
  const auto add = [](const Shape& shape) {
    const std::string name =
        std::to_string(shape.layers) + "x" + std::to_string(shape.hidden) + "/" + std::to_string(shape.rows);
    benchmark::RegisterBenchmark(("Lstm/" + name).c_str(), BM_Lstm, shape)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  add(kPaper);
  for (const Shape& shape : kSmall) add(shape);
}

void BM_RngWords(benchmark::State& state) {
  Rng rng(1, 2);
  std::vector<std::uint32_t> words(8192);
  for (auto _ : state) {
    rng.Fill(words);
    benchmark::DoNotOptimize(words.data());
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * 8192);
}
BENCHMARK(BM_RngWords)->Name("Rng/Fill");

void BM_RngUniform(benchmark::State& state) {
  Rng rng(1, 2);
  std::vector<float> values(8192);
  for (auto _ : state) {
    rng.FillUniform(-1, 1, values);
    benchmark::DoNotOptimize(values.data());
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * 8192);
}
BENCHMARK(BM_RngUniform)->Name("Rng/FillUniform");

void BM_RngNormal(benchmark::State& state) {
  Rng rng(1, 2);
  std::vector<float> values(8192);
  for (auto _ : state) {
    rng.FillNormal(1, values);
    benchmark::DoNotOptimize(values.data());
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * 8192);
}
BENCHMARK(BM_RngNormal)->Name("Rng/FillNormal");

void BM_RngScalar(benchmark::State& state) {
  Rng rng(1, 2);
  std::uint32_t sum = 0;
  for (auto _ : state) {
    for (int i = 0; i < 8192; ++i) sum += rng.Next();
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()) * 8192);
}
BENCHMARK(BM_RngScalar)->Name("Rng/Next");

}  // namespace
}  // namespace iterand

int main(int argc, char** argv) {
  iterand::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
