// What 8-bit networks could gain on this machine: the matrix products of an LSTM's token step in fp32 and in exact
// integers, and the bound that follows for a whole round, if everything else (gates, tables, choosing tokens, sampling)
// stays as it is and quantising the states costs nothing.
//
//   precision_bench                    # needs AVX2; AVX-512 VNNI is not used
//
// Names: layers x hidden / rows. Counters, all as multiples of fp32 unless told:
//   int8_products  8-bit weights and 7-bit states, so that vpmaddubsw cannot saturate; vpmaddwd widens each product to
//                  32 bits
//   int4_products  4-bit weights and 7-bit states: sums of 64 inputs fit into 16 bits, so that widening is rare
//   products       the products' share of an fp32 round
//   int8_round, int4_round, free_round  bounds for a round; the last with products that cost nothing
//
// Medians over the run. Both integer kernels are compared with plain loops first.
#include <benchmark/benchmark.h>

#if defined(__AVX2__)

#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/recurrent_round.h"
#include "randnet/matrix.h"

namespace iterand::bench {
namespace {

// Weights are panels of 16 outputs, [k / 4][16][k % 4]: a vector has four inputs of 8 outputs.
constexpr int kPanel = matrix::kPanel;
constexpr int kQuad = 4;

struct IntegerProduct {
  int rows;    // even
  int inputs;  // a multiple of 64
  int outputs;
  std::vector<std::uint8_t> states;  // row-major, below 128
  std::vector<std::int8_t> weights;
  std::vector<std::int32_t> out;  // row-major
};

__m256i Vector(const std::int8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

__m256i Broadcast(const std::uint8_t* from) {
  std::int32_t quad;
  __builtin_memcpy(&quad, from, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

// 2 rows x 2 panels a tile, in 32-bit sums.
__attribute__((noinline)) void MultiplyInt8(IntegerProduct& product) {
  constexpr int kRows = 2;
  constexpr int kColumns = 4;
  const __m256i ones = _mm256_set1_epi16(1);
  const std::ptrdiff_t panel_bytes = static_cast<std::ptrdiff_t>(product.inputs) * kPanel;
  for (int panel = 0; panel < product.outputs / kPanel; panel += 2) {
    for (int row = 0; row < product.rows; row += kRows) {
      __m256i sum[kRows][kColumns] = {};
      const std::int8_t* weights = product.weights.data() + panel * panel_bytes;
      const std::uint8_t* states = product.states.data() + static_cast<std::ptrdiff_t>(row) * product.inputs;
      for (int k = 0; k < product.inputs; k += kQuad, weights += kQuad * kPanel) {
        __m256i state[kRows];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) state[r] = Broadcast(states + r * product.inputs + k);
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) {
          const __m256i weight = Vector(weights + c / 2 * panel_bytes + c % 2 * 32);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            const __m256i pairs = _mm256_maddubs_epi16(state[r], weight);
            sum[r][c] = _mm256_add_epi32(sum[r][c], _mm256_madd_epi16(pairs, ones));
          }
        }
      }
      for (int r = 0; r < kRows; ++r) {
        std::int32_t* out =
            product.out.data() + static_cast<std::ptrdiff_t>(row + r) * product.outputs + panel * kPanel;
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * c), sum[r][c]);
      }
    }
  }
}

// Likewise, in 16-bit sums of pairs over 64 inputs: at most 32 * 127 * 7 < 2^15 in magnitude.
__attribute__((noinline)) void MultiplyInt4(IntegerProduct& product) {
  constexpr int kRows = 2;
  constexpr int kColumns = 4;
  constexpr int kBlock = 64;
  const __m256i ones = _mm256_set1_epi16(1);
  const std::ptrdiff_t panel_bytes = static_cast<std::ptrdiff_t>(product.inputs) * kPanel;
  for (int panel = 0; panel < product.outputs / kPanel; panel += 2) {
    for (int row = 0; row < product.rows; row += kRows) {
      const std::int8_t* weights = product.weights.data() + panel * panel_bytes;
      const std::uint8_t* states = product.states.data() + static_cast<std::ptrdiff_t>(row) * product.inputs;
      for (int block = 0; block < product.inputs; block += kBlock) {
        __m256i sum[kRows][kColumns] = {};
        for (int k = block; k < block + kBlock; k += kQuad, weights += kQuad * kPanel) {
          __m256i state[kRows];
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) state[r] = Broadcast(states + r * product.inputs + k);
#pragma GCC unroll 8
          for (int c = 0; c < kColumns; ++c) {
            const __m256i weight = Vector(weights + c / 2 * panel_bytes + c % 2 * 32);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
              sum[r][c] = _mm256_add_epi16(sum[r][c], _mm256_maddubs_epi16(state[r], weight));
            }
          }
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          std::int32_t* out =
              product.out.data() + static_cast<std::ptrdiff_t>(row + r) * product.outputs + panel * kPanel;
#pragma GCC unroll 8
          for (int c = 0; c < kColumns; ++c) {
            auto* at = reinterpret_cast<__m256i*>(out + 8 * c);
            const __m256i wide = _mm256_madd_epi16(sum[r][c], ones);
            _mm256_storeu_si256(at, block == 0 ? wide : _mm256_add_epi32(_mm256_loadu_si256(at), wide));
          }
        }
      }
    }
  }
}

IntegerProduct MakeProduct(int rows, int inputs, int outputs, int largest_weight) {
  IntegerProduct product{rows, inputs, outputs, {}, {}, {}};
  Rng rng(1, 2);
  product.states.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(inputs));
  for (auto& state : product.states) state = static_cast<std::uint8_t>(rng.Below(128));
  product.weights.resize(static_cast<std::size_t>(inputs) * static_cast<std::size_t>(outputs));
  for (auto& weight : product.weights) {
    weight = static_cast<std::int8_t>(static_cast<int>(rng.Below(2 * static_cast<std::uint32_t>(largest_weight) + 1)) -
                                      largest_weight);
  }
  product.out.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(outputs));
  return product;
}

bool EqualsPlainLoops(const IntegerProduct& product) {
  for (int r = 0; r < product.rows; ++r) {
    for (int n = 0; n < product.outputs; ++n) {
      std::int32_t sum = 0;
      for (int k = 0; k < product.inputs; ++k) {
        const int at = n / kPanel * product.inputs * kPanel + (k / kQuad * kPanel + n % kPanel) * kQuad + k % kQuad;
        sum += product.states[static_cast<std::size_t>(r * product.inputs + k)] *
               product.weights[static_cast<std::size_t>(at)];
      }
      if (product.out[static_cast<std::size_t>(r * product.outputs + n)] != sum) return false;
    }
  }
  return true;
}

struct FloatProduct {
  int rows;
  int inputs;
  int outputs;
  matrix::Floats states;
  matrix::Floats weights;
  matrix::Floats out;

  FloatProduct(int row_count, int input_count, int output_count)
      : rows(row_count), inputs(input_count), outputs(output_count) {
    Rng rng(1, 2);
    states.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(inputs));
    weights.resize(static_cast<std::size_t>(inputs) * static_cast<std::size_t>(outputs));
    out.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(outputs));
    rng.FillUniform(-1, 1, states);
    rng.FillUniform(-1, 1, weights);
  }

  void Multiply() {
    matrix::Multiply(states.data(), inputs, rows, inputs, weights.data(), static_cast<std::ptrdiff_t>(inputs) * kPanel,
                     outputs, nullptr, out.data(), outputs);
  }
};

// Seconds of `repeat` calls.
template <class Work>
double Time(int repeat, const Work& work) {
  const double begin = Seconds();
  for (int i = 0; i < repeat; ++i) {
    work();
    benchmark::ClobberMemory();
  }
  return (Seconds() - begin) / repeat;
}

// One product stands for all of a step: rows x 2 hidden x 4 hidden, that of a layer above the first.
void BM_Precision(benchmark::State& state, const RecurrentShape& shape) {
  const int inputs = 2 * shape.hidden;
  const int outputs = 4 * shape.hidden;
  const int rows = shape.rows;
  IntegerProduct int8 = MakeProduct(rows, inputs, outputs, 127);
  IntegerProduct int4 = MakeProduct(rows, inputs, outputs, 7);
  MultiplyInt8(int8);
  MultiplyInt4(int4);
  if (!EqualsPlainLoops(int8) || !EqualsPlainLoops(int4)) {
    state.SkipWithError("an integer kernel is wrong");
    return;
  }
  FloatProduct fp32(rows, inputs, outputs);
  RecurrentRound round(shape);
  const double flops = 2.0 * rows * inputs * outputs;
  const double products_of_round = round.flops() / flops;
  const int repeat = static_cast<int>(1e8 / flops) + 1;
  std::vector<double> int8_products;
  std::vector<double> int4_products;
  std::vector<double> share;
  for (auto _ : state) {
    const double begin = Seconds();
    round.Sample();
    round.Run();
    const double whole = Seconds() - begin;
    const double one = Time(repeat, [&] { fp32.Multiply(); });
    int8_products.push_back(one / Time(repeat, [&] { MultiplyInt8(int8); }));
    int4_products.push_back(one / Time(repeat, [&] { MultiplyInt4(int4); }));
    share.push_back(one * products_of_round / whole);
  }
  const double products = Quantile(share, 0.5);
  const double by_int8 = Quantile(int8_products, 0.5);
  const double by_int4 = Quantile(int4_products, 0.5);
  state.counters["products"] = products;
  state.counters["int8_products"] = by_int8;
  state.counters["int4_products"] = by_int4;
  state.counters["int8_round"] = 1 / (1 - products + products / by_int8);
  state.counters["int4_round"] = 1 / (1 - products + products / by_int4);
  state.counters["free_round"] = 1 / (1 - products);
}

void RegisterShapes() {
  for (const RecurrentShape& shape :
       {RecurrentShape{.layers = 4, .hidden = 128, .rows = 104, .length = 64},
        RecurrentShape{.layers = 2, .hidden = 32, .rows = 6}, RecurrentShape{.layers = 2, .hidden = 64, .rows = 6}}) {
    benchmark::RegisterBenchmark(("Precision/" + shape.name()).c_str(), BM_Precision, shape)
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace iterand::bench

int main(int argc, char** argv) {
  iterand::bench::RegisterShapes();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

#else

#include <cstdio>

int main() {
  std::fputs("precision_bench: this program was built for a processor without AVX2\n", stderr);
  return 1;
}

#endif
