// Kernels of randnet: matrix products, choice of symbols, recurrent networks and random numbers, beside the core's own
// peak.
//
//   FmaPeak         fp32 fused multiply-adds on registers alone: what "peak" means below.
//   Multiply/...    rows x inputs x outputs, weights in the caches as in a network of that size.
//   Choose/...      one of 256 symbols by its logits.
//   Lstm/...        layers x hidden / rows; likewise Gru and Rnn. Everything that a round does: sampling the program,
//                   tables, gates, choosing tokens. FLOPs are those of the matrix products that run at each token;
//                   gates, tables and sampling count as none. `sample` is the share of sampling in a round's time;
//                   `median_tokens/s` is of the median round. The paper's rows are cut to 64 tokens.
//   Rng/...         values/s of the vector random streams.
//
//   kernels_bench [--target=AVX2] [--benchmark_...]    # another of the processor's vector targets than the best
//
// Rates and shares are of the fastest tenth of the rounds, and the peak that of the fastest tenth of its measurements
// between them. Whatever else runs on the machine, or on a sibling thread of the core, disturbs both, but not equally.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "bench/recurrent_round.h"
#include "randnet/base/matrix.h"
// clang-format off
#include "randnet/base/simd.h"  // says which targets there are, so it must come before highway.h
#include "hwy/highway.h"
// clang-format on

namespace iterand::bench {
namespace {

void BM_FmaPeak(benchmark::State& state) {
  double flops = 0;
  for (auto _ : state) flops += RunFmas(10000);
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsRate);
}
BENCHMARK(BM_FmaPeak)->Name("FmaPeak");

// Times `work`, which does this many FLOPs, again and again.
template <class Work>
void CountFlops(benchmark::State& state, double flops, const Work& work) {
  std::vector<double> seconds;
  std::vector<double> peaks;
  for (auto _ : state) {
    const double begin = ThreadSeconds();
    work();
    seconds.push_back(ThreadSeconds() - begin);
    state.SetIterationTime(seconds.back());
    peaks.push_back(MeasurePeak());
  }
  const double rate = flops / Quantile(seconds, 0.1);
  state.counters["FLOP/s"] = rate;
  state.counters["peak_share"] = rate / Quantile(peaks, 0.9);
}

struct ProductShape {
  int rows;
  int inputs;
  int outputs;
};

// Of `up`'s programs: own h of hidden 32, a second layer's of 64, the output layer; and of the paper's.
constexpr ProductShape kProducts[] = {{6, 32, 128}, {6, 128, 256}, {6, 32, 256}, {104, 256, 512}, {104, 128, 256}};

void BM_Multiply(benchmark::State& state, const ProductShape& shape) {
  constexpr int kRepeat = 100;
  Rng rng(1, 2);
  const auto floats = [&](int count) {
    matrix::Floats values(static_cast<std::size_t>(count));
    rng.FillUniform(-1, 1, values);
    return values;
  };
  const matrix::Floats in = floats(shape.rows * shape.inputs);
  const matrix::Floats weights = floats(shape.inputs * shape.outputs);
  matrix::Floats out = floats(shape.rows * shape.outputs);
  CountFlops(state, 2.0 * shape.rows * shape.inputs * shape.outputs * kRepeat, [&] {
    for (int i = 0; i < kRepeat; ++i) {
      matrix::Multiply(in.data(), shape.inputs, shape.rows, shape.inputs, weights.data(),
                       static_cast<std::ptrdiff_t>(shape.inputs) * matrix::kPanel, shape.outputs, nullptr, out.data(),
                       shape.outputs);
      benchmark::DoNotOptimize(out.data());
    }
  });
}

void BM_Choose(benchmark::State& state, float temperature) {
  Rng rng(1, 2);
  matrix::Floats logits(kAlphabet);
  matrix::Floats copy(kAlphabet);
  rng.FillNormal(1, logits);
  for (auto _ : state) {
    copy = logits;  // drawing overwrites them
    benchmark::DoNotOptimize(matrix::Choose(copy.data(), kAlphabet, temperature, rng));
  }
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(BM_Choose, argmax, 0.0F)->Name("Choose/argmax");
BENCHMARK_CAPTURE(BM_Choose, drawn, 0.5F)->Name("Choose/drawn");

void BM_Round(benchmark::State& state, const RecurrentShape& shape) {
  RecurrentRound round(shape);
  round.Run();
  std::vector<double> seconds;
  std::vector<double> samples;
  CountFlops(state, round.flops(), [&] {
    const double begin = ThreadSeconds();
    round.Sample();
    samples.push_back(ThreadSeconds() - begin);
    round.Run();
    seconds.push_back(ThreadSeconds() - begin);
  });
  const double fast = Quantile(seconds, 0.1);
  state.counters["tokens/s"] = round.tokens() / fast;
  state.counters["median_tokens/s"] = round.tokens() / Quantile(seconds, 0.5);
  state.counters["sample"] = Quantile(samples, 0.1) / fast;
}

constexpr RecurrentShape kShapes[] = {
    {.layers = 4, .hidden = 128, .rows = 104, .length = 64, .weight_factor = 2, .embedding_scale = 1},
    {.layers = 1, .hidden = 32, .rows = 6},
    {.layers = 2, .hidden = 32, .rows = 6},
    {.layers = 2, .hidden = 32, .rows = 7},
    {.layers = 2, .hidden = 32, .rows = 8},
    {.layers = 1, .hidden = 64, .rows = 6},
    {.layers = 1, .hidden = 64, .rows = 8},
    {.layers = 2, .hidden = 64, .rows = 6},
    {.layers = 2, .hidden = 64, .rows = 8},
    {.layers = 2, .hidden = 32, .rows = 6, .temperature = 0.5},
    {.kind = v1::Family::kGru, .layers = 4, .hidden = 128, .rows = 104, .length = 64},
    {.kind = v1::Family::kGru, .layers = 2, .hidden = 32, .rows = 6},
    {.kind = v1::Family::kRnn, .layers = 4, .hidden = 128, .rows = 104, .length = 64},
    {.kind = v1::Family::kRnn, .layers = 2, .hidden = 32, .rows = 6},
};

void RegisterShapes() {
  for (const ProductShape& shape : kProducts) {
    const std::string name =
        std::to_string(shape.rows) + "x" + std::to_string(shape.inputs) + "x" + std::to_string(shape.outputs);
    benchmark::RegisterBenchmark(("Multiply/" + name).c_str(), BM_Multiply, shape)->UseManualTime();
  }
  for (const RecurrentShape& shape : kShapes) {
    const std::string family = shape.kind == v1::Family::kGru   ? "Gru/"
                               : shape.kind == v1::Family::kRnn ? "Rnn/"
                                                                : "Lstm/";
    benchmark::RegisterBenchmark((family + shape.name()).c_str(), BM_Round, shape)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
}

constexpr std::size_t kValues = 8192;

template <class Value, class Fill>
void CountValues(benchmark::State& state, const Fill& fill) {
  Rng rng(1, 2);
  std::vector<Value> values(kValues);
  for (auto _ : state) {
    fill(rng, values);
    benchmark::DoNotOptimize(values.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kValues));
}

void BM_RngWords(benchmark::State& state) {
  CountValues<std::uint32_t>(state, [](Rng& rng, auto& values) { rng.Fill(values); });
}
BENCHMARK(BM_RngWords)->Name("Rng/Fill");

void BM_RngUniform(benchmark::State& state) {
  CountValues<float>(state, [](Rng& rng, auto& values) { rng.FillUniform(-1, 1, values); });
}
BENCHMARK(BM_RngUniform)->Name("Rng/FillUniform");

void BM_RngNormal(benchmark::State& state) {
  CountValues<float>(state, [](Rng& rng, auto& values) { rng.FillNormal(1, values); });
}
BENCHMARK(BM_RngNormal)->Name("Rng/FillNormal");

void BM_RngScalar(benchmark::State& state) {
  CountValues<std::uint32_t>(state, [](Rng& rng, auto& values) {
    for (std::uint32_t& value : values) value = rng.Next();
  });
}
BENCHMARK(BM_RngScalar)->Name("Rng/Next");

}  // namespace
}  // namespace iterand::bench

int main(int argc, char** argv) {
  constexpr std::string_view kTargetFlag = "--target=";
  std::vector<std::int64_t> targets = hwy::SupportedAndGeneratedTargets();  // the best comes first
  if (argc > 1 && std::string_view(argv[1]).starts_with(kTargetFlag)) {
    const std::string_view name = std::string_view(argv[1]).substr(kTargetFlag.size());
    std::erase_if(targets, [name](std::int64_t target) { return hwy::TargetName(target) != name; });
    if (targets.empty()) {
      std::fprintf(stderr, "kernels_bench: --target: this processor does not run %s\n", argv[1] + kTargetFlag.size());
      return 1;
    }
    hwy::SetSupportedTargetsForTest(targets.front());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    argv[1] = argv[0];
    ++argv;
    --argc;
  }
  benchmark::AddCustomContext("vector_target", hwy::TargetName(targets.front()));
  iterand::bench::RegisterShapes();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
