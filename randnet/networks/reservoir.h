// Echo state networks: a fixed random recurrent network reads the input row and emits one symbol for each that it reads
// (Bloem 2025, arXiv 2506.20057, "reservoir" source; Jaeger 2001 for the networks).
//
// Definition. N = width, K = connections (at most N), M = emitted (at most the alphabet A), T = temperature; z the
// input row. All arithmetic is float32; chain is that of randnet/base/matrix.h.
//
//   Draws of Sample, in this order:
//     1. the knobs: width, connections, weight_scale, embedding_scale, emitted, output_scale, temperature;
//     2. the embedding E, A x N row-major: embedding_scale * Normal();
//     3. unit by unit, its K distinct sources among the N units: the first K steps of a Fisher-Yates shuffle by
//        Rng::Below of one array that starts as 0 .. N - 1 and is shuffled on from unit to unit;
//     4. the recurrent weights, N x K row-major: weight_scale * Normal();
//     5. M distinct symbols (DrawDistinct): the only ones that are ever emitted, in this order;
//     6. the output weights, M x N row-major: (output_scale / sqrt(N)) * Normal().
//
//   Step t. h_u(t) = tanh(chain(E(z_t)_u; weights of u, h(t-1) of its sources)), sources in the order drawn; h = 0
//   before t = 0. logit_m = chain(0; output weights of m, h(t)). out_t is the symbol that
//   randnet/networks/recurrent.h's "Next token" chooses among the M.
//
// The paper writes the recurrent weights as N(0, 0.21). Read as a standard deviation, the default here, 16 of them per
// unit give a spectral radius of 0.21 * sqrt(16) = 0.84, below 1 as echo states need; read as a variance (weight_scale
// 0.458) it is 1.83. The paper does not give the scale of the output weights; ours gives logits of about unit variance.
#pragma once

#include <vector>

#include "randnet/base/matrix.h"
#include "randnet/family.h"
#include "randnet/knob.h"
#include "randnet/networks/reservoir_kernels.h"

namespace iterand {

struct ReservoirKnobs {
  IntegerKnob width;
  IntegerKnob connections;
  RealKnob weight_scale;
  RealKnob embedding_scale;
  IntegerKnob emitted;
  RealKnob output_scale;
  RealKnob temperature;
};

class ReservoirProgram final : public Program {
 public:
  ReservoirProgram(const ReservoirKnobs& knobs, const FamilyContext& context);

  void Sample(Rng& rng) override;
  bool watchable() const override { return true; }
  void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) override;
  std::string Describe() const override;

  // Run that also stores the logits of every step, in the order [row][step][emitted]; for tests.
  void RunWithLogits(BlockView input, const RowRng& rng, MutableBlockView out, float* logits);

  // The sampled network; for tests.
  const ReservoirNet& net() const { return net_; }
  const std::vector<Symbol>& symbols() const { return symbols_; }

 private:
  const ReservoirKnobs& knobs_;
  FamilyContext context_;
  float weight_scale_ = 0;
  float embedding_scale_ = 0;
  float output_scale_ = 0;
  float temperature_ = 0;
  ReservoirNet net_;
  matrix::Floats embedding_;
  std::vector<std::uint32_t> shuffled_;
  std::vector<std::uint32_t> sources_;
  matrix::Floats weights_;
  std::vector<Symbol> scratch_;
  std::vector<Symbol> symbols_;
  matrix::Floats output_weights_;
  matrix::Floats states_;
  matrix::Floats lane_logits_;  // [emitted][rows of a group]
  matrix::Floats logits_;
  std::vector<Rng> rngs_;
};

extern const FamilyEntry kReservoirEntry;

}  // namespace iterand
