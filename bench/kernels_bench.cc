// Kernels of randnet: recurrent networks and random numbers, beside the core's own peak.
//
//   FmaPeak        fp32 fused multiply-adds on registers alone: what "peak" means below.
//   Lstm/...       tokens/s, FLOP/s and their share of the peak, with everything that a round does: sampling the program, tables, gates,
//                  choosing tokens. FLOPs are those of the matrix products that run at each token; gates, tables and sampling
//                  count as none. Counters of the best round, since whatever else runs on the machine can only slow a round
//                  down; the peak is the best of many measurements between the rounds, so it is never flattered. `sample` is the share
//                  of sampling in that time.
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

constexpr int kLength = 512;
constexpr int kAlphabet = 256;

// Time that this thread ran, so that a preempted round does not count what others did meanwhile.
double Seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// FLOP/s of the core now: the best of a few runs of some 0.1 ms.
double MeasurePeak() {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double begin = Seconds();
    const double flops = RunFmas(40000);
    best = std::max(best, flops / (Seconds() - begin));
  }
  return best;
}

struct Shape {
  int layers;
  int hidden;
  int rows;
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
    family_ = *entry->make(config, {.alphabet = kAlphabet, .length = kLength}, "bench");
    program_ = family_->NewProgram(shape.rows);
    input_.Reshape(shape.rows, kLength);
    Rng rng(1, 2);
    for (int r = 0; r < shape.rows; ++r) {
      for (int t = 0; t < kLength; ++t) input_.row(r)[t] = static_cast<Symbol>(rng.Below(kAlphabet));
    }
    prompt_.Reshape(shape.rows, 8);
    output_.Reshape(shape.rows, kLength);
    Sample();
  }

  void Sample() {
    Rng rng = MakeRng({.round = round_++}, Purpose::kSampleProgram);
    program_->Sample(rng);
  }

  void Run() {
    program_->Run(input_.view(), prompt_.view(), RowRng({}), output_.mutable_view());
    benchmark::DoNotOptimize(output_.row(0)[kLength - 1]);
  }

  double tokens() const { return static_cast<double>(shape_.rows) * kLength; }
  double flops() const { return tokens() * family_->flops_per_token(); }

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
  double peak = MeasurePeak();
  double best = 1e9;
  double best_sample = 1e9;
  for (auto _ : state) {
    const double begin = Seconds();
    round.Sample();
    const double sampled = Seconds();
    round.Run();
    const double end = Seconds();
    best = std::min(best, end - begin);
    best_sample = std::min(best_sample, sampled - begin);
    state.SetIterationTime(end - begin);
    peak = std::max(peak, MeasurePeak());
  }
  state.counters["tokens/s"] = round.tokens() / best;
  state.counters["FLOP/s"] = round.flops() / best;
  state.counters["peak_share"] = round.flops() / best / peak;
  state.counters["sample"] = best_sample / best;
}

// The published program's network, and small ones as in the default recipe.
constexpr Shape kPaper{4, 128, 104, 2.0, 1.0};
constexpr Shape kSmall[] = {{1, 32, 6, 6.0, 0.1}, {2, 32, 6, 6.0, 0.1}, {2, 32, 7, 6.0, 0.1}, {2, 32, 8, 6.0, 0.1},
                            {1, 64, 6, 6.0, 0.1}, {2, 64, 6, 6.0, 0.1}, {2, 64, 8, 6.0, 0.1}};

void RegisterAll() {
  const auto add = [](const Shape& shape) {
    const std::string name =
        std::to_string(shape.layers) + "x" + std::to_string(shape.hidden) + "/" + std::to_string(shape.rows);
    benchmark::RegisterBenchmark(("Lstm/" + name).c_str(), BM_Lstm, shape)->UseManualTime()->Unit(benchmark::kMillisecond);
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
