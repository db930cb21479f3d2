// What 8- and 16-bit networks could gain on this machine: the matrix products of an LSTM's token step in fp32, in exact
// integers and in bf16, and the bound that follows for a whole round, if everything else (gates, tables, choosing
// tokens, sampling) stays as it is and rounding the states costs nothing.
//
//   precision_bench                    # needs AVX2; figures of instructions that the processor lacks are left out
//
// Names: layers x hidden / rows. Counters, all as multiples of fp32 unless told:
//   products       the products' share of an fp32 round
//   int8, int4     AVX2. 8-bit weights and 7-bit states, so that vpmaddubsw cannot saturate, widened to 32 bits by
//                  vpmaddwd; or 4-bit weights, where sums of 64 inputs fit into 16 bits and widening is rare
//   vnni           AVX-512 VNNI (vpdpbusd): 8-bit weights and states into 32-bit sums
//   bf16           AVX-512 BF16 (vdpbf16ps): fp32 sums
//   ..._round      the bound for a round with these products; free_round with products that cost nothing
//
// Medians over the run. Every kernel is compared with plain loops first.
#include <benchmark/benchmark.h>

#if defined(__AVX2__)

#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "bench/recurrent_round.h"
#include "randnet/base/matrix.h"

namespace iterand::bench {
namespace {

// Weights are panels of 16 outputs, [k / 4][16][k % 4]: a vector has four inputs of 8 outputs.
constexpr int kPanel = matrix::kPanel;
constexpr int kQuad = 4;

struct IntegerProduct {
  int rows;    // a multiple of 4 or 6
  int inputs;  // a multiple of 64
  int outputs;
  std::vector<std::uint8_t> states;  // row-major, below 128
  std::vector<std::int8_t> weights;
  std::vector<std::int32_t> out;  // row-major
};

__m256i Vector(const std::int8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

// The inputs that share a 32-bit word.
std::int32_t Word(const void* from) {
  std::int32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

__m256i Broadcast(const std::uint8_t* from) { return _mm256_set1_epi32(Word(from)); }

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

// ---- AVX-512: a vector has the same 4 bytes (or 2 bf16) of all 16 outputs of a panel. Compiled for processors that
// may lack it, so callers ask first. ----

#define ITERAND_VNNI __attribute__((target("avx512f,avx512vnni")))
#define ITERAND_BF16 __attribute__((target("avx512f,avx512bf16")))

// kRows x 4 panels a tile.
template <int kRows>
ITERAND_VNNI void MultiplyVnniRows(IntegerProduct& product) {
  constexpr int kPanels = 4;
  const std::ptrdiff_t panel_bytes = static_cast<std::ptrdiff_t>(product.inputs) * kPanel;
  for (int panel = 0; panel < product.outputs / kPanel; panel += kPanels) {
    for (int row = 0; row < product.rows; row += kRows) {
      __m512i sum[kRows][kPanels] = {};
      const std::int8_t* weights = product.weights.data() + panel * panel_bytes;
      const std::uint8_t* states = product.states.data() + static_cast<std::ptrdiff_t>(row) * product.inputs;
      for (int k = 0; k < product.inputs; k += kQuad, weights += kQuad * kPanel) {
        __m512i weight[kPanels];
#pragma GCC unroll 8
        for (int p = 0; p < kPanels; ++p) weight[p] = _mm512_loadu_si512(weights + p * panel_bytes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m512i state = _mm512_set1_epi32(Word(states + r * product.inputs + k));
#pragma GCC unroll 8
          for (int p = 0; p < kPanels; ++p) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], state, weight[p]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        std::int32_t* out =
            product.out.data() + static_cast<std::ptrdiff_t>(row + r) * product.outputs + panel * kPanel;
#pragma GCC unroll 8
        for (int p = 0; p < kPanels; ++p) _mm512_storeu_si512(out + p * kPanel, sum[r][p]);
      }
    }
  }
}

void MultiplyVnni(IntegerProduct& product) {
  if (product.rows % 6 == 0) {
    MultiplyVnniRows<6>(product);
  } else {
    MultiplyVnniRows<4>(product);
  }
}

// Weights are panels of 16 outputs, [k / 2][16][k % 2], states row-major; both the upper halves of floats.
struct BFloatProduct {
  int rows;    // a multiple of 4 or 6
  int inputs;  // even
  int outputs;
  std::vector<std::uint16_t> states;
  std::vector<std::uint16_t> weights;
  std::vector<float> out;  // row-major
};

template <int kRows>
ITERAND_BF16 void MultiplyBFloatRows(BFloatProduct& product) {
  constexpr int kPanels = 4;
  const std::ptrdiff_t panel_words = static_cast<std::ptrdiff_t>(product.inputs) * kPanel;
  for (int panel = 0; panel < product.outputs / kPanel; panel += kPanels) {
    for (int row = 0; row < product.rows; row += kRows) {
      __m512 sum[kRows][kPanels] = {};
      const std::uint16_t* weights = product.weights.data() + panel * panel_words;
      const std::uint16_t* states = product.states.data() + static_cast<std::ptrdiff_t>(row) * product.inputs;
      for (int k = 0; k < product.inputs; k += 2, weights += 2 * kPanel) {
        __m512bh weight[kPanels];
#pragma GCC unroll 8
        for (int p = 0; p < kPanels; ++p) {
          weight[p] = __builtin_bit_cast(__m512bh, _mm512_loadu_si512(weights + p * panel_words));
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const auto state = __builtin_bit_cast(__m512bh, _mm512_set1_epi32(Word(states + r * product.inputs + k)));
#pragma GCC unroll 8
          for (int p = 0; p < kPanels; ++p) sum[r][p] = _mm512_dpbf16_ps(sum[r][p], state, weight[p]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        float* out = product.out.data() + static_cast<std::ptrdiff_t>(row + r) * product.outputs + panel * kPanel;
#pragma GCC unroll 8
        for (int p = 0; p < kPanels; ++p) _mm512_storeu_ps(out + p * kPanel, sum[r][p]);
      }
    }
  }
}

void MultiplyBFloat(BFloatProduct& product) {
  if (product.rows % 6 == 0) {
    MultiplyBFloatRows<6>(product);
  } else {
    MultiplyBFloatRows<4>(product);
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

BFloatProduct MakeBFloatProduct(int rows, int inputs, int outputs) {
  BFloatProduct product{rows, inputs, outputs, {}, {}, {}};
  Rng rng(1, 2);
  const auto fill = [&rng](std::vector<std::uint16_t>& values, int count) {
    std::vector<float> floats(static_cast<std::size_t>(count));
    rng.FillUniform(-1, 1, floats);
    for (const float value : floats)
      values.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
  };
  fill(product.states, rows * inputs);
  fill(product.weights, inputs * outputs);
  product.out.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(outputs));
  return product;
}

float FromBFloat(std::uint16_t value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16); }

// The instruction rounds twice a pair, the odd input first.
bool EqualsPlainLoops(const BFloatProduct& product) {
  for (int r = 0; r < product.rows; ++r) {
    for (int n = 0; n < product.outputs; ++n) {
      float sum = 0;
      for (int k = 0; k < product.inputs; ++k) {
        const int input = k ^ 1;
        const int at = n / kPanel * product.inputs * kPanel + (input / 2 * kPanel + n % kPanel) * 2 + input % 2;
        sum = std::fma(FromBFloat(product.states[static_cast<std::size_t>(r * product.inputs + input)]),
                       FromBFloat(product.weights[static_cast<std::size_t>(at)]), sum);
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
  IntegerProduct vnni = MakeProduct(rows, inputs, outputs, 127);
  BFloatProduct bf16 = MakeBFloatProduct(rows, inputs, outputs);

  struct Kernel {
    std::string name;
    bool supported;
    std::function<void()> multiply;
    std::function<bool()> right;
    std::vector<double> gain;
  };
  Kernel kernels[] = {
      {"int8", true, [&] { MultiplyInt8(int8); }, [&] { return EqualsPlainLoops(int8); }, {}},
      {"int4", true, [&] { MultiplyInt4(int4); }, [&] { return EqualsPlainLoops(int4); }, {}},
      {"vnni",
       __builtin_cpu_supports("avx512vnni") != 0,
       [&] { MultiplyVnni(vnni); },
       [&] { return EqualsPlainLoops(vnni); },
       {}},
      {"bf16",
       __builtin_cpu_supports("avx512bf16") != 0,
       [&] { MultiplyBFloat(bf16); },
       [&] { return EqualsPlainLoops(bf16); },
       {}},
  };
  for (const Kernel& kernel : kernels) {
    if (!kernel.supported) continue;
    kernel.multiply();
    if (!kernel.right()) {
      state.SkipWithError(("the kernel " + kernel.name + " is wrong").c_str());
      return;
    }
  }
  FloatProduct fp32(rows, inputs, outputs);
  RecurrentRound round(shape);
  const double flops = 2.0 * rows * inputs * outputs;
  const double products_of_round = round.flops() / flops;
  const int repeat = static_cast<int>(1e8 / flops) + 1;
  std::vector<double> share;
  for (auto _ : state) {
    const double begin = Seconds();
    round.Sample();
    round.Run();
    const double whole = Seconds() - begin;
    const double one = Time(repeat, [&] { fp32.Multiply(); });
    share.push_back(one * products_of_round / whole);
    for (Kernel& kernel : kernels) {
      if (kernel.supported) kernel.gain.push_back(one / Time(repeat, kernel.multiply));
    }
  }
  const double products = Quantile(share, 0.5);
  state.counters["products"] = products;
  for (Kernel& kernel : kernels) {
    if (!kernel.supported) continue;
    const double gain = Quantile(kernel.gain, 0.5);
    state.counters[kernel.name] = gain;
    state.counters[kernel.name + "_round"] = 1 / (1 - products + products / gain);
  }
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
