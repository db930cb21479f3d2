// What bounds a network's share of the peak: the parts of a token that no faster product could avoid. Each is measured
// alone with its data in the first-level cache.
//
// Products count at the peak, with outputs padded to whole panels where the kernel pads them. The sparse product of a
// reservoir counts at the speed of the load ports, the caches of a sequential transformer at that of the second-level
// cache. The bound is the share that the network would have if the parts took no more than this, one after the other.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "bench/recurrent_round.h"
#include "randnet/base/fma_peak.h"
#include "randnet/base/matrix.h"
#include "randnet/networks/mlp_window.h"
#include "randnet/networks/nca.h"
#include "randnet/networks/reservoir.h"
#include "randnet/networks/transformer.h"
#include "randnet/networks/transformer_kernels.h"

namespace iterand::bench {

struct Part {
  std::string name;
  double seconds;  // per token
};

// Seconds of the fastest of several runs.
template <class Work>
double Fastest(const Work& work) {
  double best = std::numeric_limits<double>::infinity();
  const double begin = ThreadSeconds();
  for (int i = 0; i < 3 || ThreadSeconds() - begin < 0.01; ++i) {
    const double before = ThreadSeconds();
    work();
    best = std::min(best, ThreadSeconds() - before);
  }
  return best;
}

// Speeds of this core.
struct CoreSpeed {
  double flop;     // seconds of a floating-point operation at the peak
  double indexed;  // of one of RunIndexedFmas
  double read;     // of a float from the second-level cache
  double tanh;     // of a value

  CoreSpeed() {
    constexpr int kSteps = 20000;
    double flops = 0;
    flop = Fastest([&] { flops = RunFmas(kSteps); }) / flops;
    indexed = Fastest([&] { flops = RunIndexedFmas(kSteps); }) / flops;
    matrix::Floats floats(std::size_t{1} << 16, 0.7F);  // 256 KB
    read = Fastest([&] { benchmark::DoNotOptimize(RunReads(floats.data(), 1 << 16)); }) / (1 << 16);
    matrix::Floats values(2048, 0.7F);
    tanh = Fastest([&] {
             for (int i = 0; i < 16; ++i) matrix::Tanh(values.data(), values.size());
           }) /
           (16 * 2048);
  }
};

// Of choosing among this many symbols, with `rows` rows side by side.
inline double ChooseSeconds(int rows, int symbols, float temperature) {
  constexpr int kRepeat = 64;
  const int stride = matrix::Padded(symbols);
  matrix::Floats logits(static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride));
  Rng rng(1, 2);
  rng.FillNormal(1, logits);
  std::vector<Rng> rngs(static_cast<std::size_t>(rows), rng);
  std::vector<Symbol> chosen(static_cast<std::size_t>(rows));
  return Fastest([&] {
           for (int i = 0; i < kRepeat; ++i) {
             matrix::ChooseEach(logits.data(), stride, rows, symbols, temperature, rngs.data(), chosen.data());
           }
         }) /
         (kRepeat * rows);
}

// Of the weights of a query against this many keys.
inline double WeightsSeconds(int keys) {
  constexpr int kRepeat = 64;
  matrix::Floats scores(static_cast<std::size_t>(matrix::Padded(keys)), 0.5F);
  return Fastest([&] {
           for (int i = 0; i < kRepeat; ++i) {
             benchmark::DoNotOptimize(AttentionWeights(scores.data(), keys, matrix::Padded(keys), 1.0F));
           }
         }) /
         kRepeat;
}

inline std::vector<Part> ReservoirParts(const CoreSpeed& core, const ReservoirNet& net, int rows) {
  const double width = net.width;
  return {{"connections", 2 * width * net.connections * core.indexed},
          {"outputs", 2 * width * net.emitted * core.flop},
          {"tanh", width * core.tanh},
          {"choose", ChooseSeconds(std::min(rows, kReservoirRows), net.emitted, 0.5F)}};
}

inline std::vector<Part> MlpWindowParts(const CoreSpeed& core, const MlpWindowProgram& program, int rows) {
  const double units = program.hidden();
  const double padded = matrix::Padded(program.hidden());
  const double products = (program.layers() - 1) * padded * units + units * matrix::Padded(program.symbols());
  return {{"products", 2 * products * core.flop},
          {"first layer", (program.order() + program.input_window() + 1) * padded * core.flop},
          {"tanh", program.layers() * padded * core.tanh},
          {"choose", ChooseSeconds(rows, program.symbols(), 0)}};
}

// Vector instructions that are no products count like an fma of sixteen cells. A position and feature takes a look-up
// and an addition; a colour takes five to find the two largest logits. Draws count as nothing.
inline std::vector<Part> NcaParts(const CoreSpeed& core, const NcaNet& net, double cells_per_token) {
  const double instruction = 2 * cells_per_token * core.flop;
  return {{"products", net.hidden * (net.features + net.colours) * instruction},
          {"look-ups", (net.tables == nullptr ? kNcaCells / 4.0 : 2) * net.positions() * net.features * instruction},
          {"relu", net.hidden * instruction},
          {"choose", 5.0 * (net.colours - 1) * instruction}};
}

inline std::vector<Part> TransformerParts(const CoreSpeed& core, const TransformerProgram& program, bool sequential,
                                          int length, int window, int alphabet) {
  const double width = program.width();
  const double layers = program.layers();
  const double inner = program.layer(0).first.outputs();
  const double products = layers * ((sequential ? 8 : 4) * width * width + 2 * width * inner) +
                          width * matrix::Padded(alphabet + (sequential ? 0 : 1));
  // Causal queries see half of the row on an average.
  const int keys = sequential ? window : length / 2;
  const double attentions = layers * (sequential ? 2 : 1);
  std::vector<Part> parts = {{"products", 2 * products * core.flop},
                             {"attention weights", attentions * program.heads() * WeightsSeconds(keys)},
                             {"choose", ChooseSeconds(8, alphabet, 0.5F)}};
  if (sequential) {
    parts.push_back({"reading keys and values", attentions * 2 * keys * width * core.read});
  } else {
    parts.push_back({"attention products", attentions * 4 * keys * width * core.flop});
  }
  return parts;
}

}  // namespace iterand::bench
