// What the families of recurrent networks share (randnet/networks/lstm.h, gru.h, rnn.h): knobs, drawing a network,
// running it.
//
// Definition of what they share. H = hidden, L = layers, A = alphabet, D = embedding width (0 means H), G = gates of a
// unit, T = temperature; x the row being written, z the input row, both of the same length. All arithmetic is float32;
// chain(a; w, v) means the value of a, then a = fma(w_k, v_k, a) for k ascending.
//
//   Factor in force  F = f, the weight factor; or with ONCE_PER_LAYER f * f * ... * f (L factors, multiplied one after
//                    the other).
//   Bounds           a = 1 / sqrt(H), b = a * F: PyTorch's initialisation, times the factor.
//
//   Draws of Sample, in this order:
//     1. the knobs: layers, hidden, embedding, embedding_scale, weight_factor, temperature, prompt_length;
//     2. the embedding E, A x D row-major: embedding_scale * Normal(); both x and z use it;
//     3. layer by layer: the first bias vector (of the inputs), G * H values Uniform(-b, b), then the second (of its
//        own h), likewise, in PyTorch's order: gate, then unit. Then the weights: for every group of 16 units, for
//        every gate, for every input k ascending, for every unit of the group ascending: Uniform(-b, b). Layer 0 has
//        the inputs E(x) (D), E(z) (D), own h (H); the layers above have h of the layer below (H), own h (H);
//     4. the output layer: A biases Uniform(-a, a); then for every group of 16 symbols, for every k ascending below H,
//        for every symbol of the group: Uniform(-a, a). The factor does not touch it.
//   Uniform(l, h) is Rng::FillUniform's.
//
//   Step t. Layer by layer, each gate's sum over the inputs is, in layer 0, (chain(bias; W, E(x_t)) + chain(0; W,
//   E(z_t))), and above, chain(bias; W, h(t) of the layer below); it continues as a chain over its own h(t-1). The cell
//   of the family makes the new h of the sums. All states are 0 before t = 0. A gate's bias is the sum of both vectors'
//   values. (The GRU's gate n keeps its two biases and two sums apart.)
//   Logits: chain from the output bias over h of the last layer.
//
//   Next token. T < 1e-6: the symbol with the largest logit, the lowest of equals. Else weights, with e =
//   math::GateExp, w_n = e((logit_n - largest) * (1 / T)) (so none is below e^-27.5); S_j = the sum of w_n over n = j
//   mod 16, n ascending; total = S_0 + S_1 + ... + S_15 in this order; u = total * Uniform() of the row's generator,
//   one draw per token. The first j with u < S_j is taken, each S_j before it being subtracted from u; then the first n
//   = j mod 16 at which the running sum of w_n exceeds u (the last such n if rounding leaves none; of j likewise).
//
//   The prompt is the beginning of x; with no prompt, x_0 = z_0. Then input (x_t, z_t) gives x_{t+1}.
//
// Every element of this is independent of how many rows run side by side, of vector width and of memory layout.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "randnet/family.h"
#include "randnet/knob.h"
#include "randnet/networks/recurrent_kernels.h"

namespace iterand {

struct RecurrentKnobs {
  IntegerKnob layers;
  IntegerKnob hidden;
  IntegerKnob embedding;
  RealKnob embedding_scale;
  RealKnob weight_factor;
  bool once_per_layer;
  RealKnob temperature;
  IntegerKnob prompt_length;
};

// The knobs that the families' messages (v1::Lstm, Gru, Rnn) share.
template <class Config>
RecurrentKnobs MakeRecurrentKnobs(const Config& config) {
  return {.layers = IntegerKnob(config.layers()),
          .hidden = IntegerKnob(config.hidden()),
          .embedding = IntegerKnob(config.embedding()),
          .embedding_scale = RealKnob(config.embedding_scale()),
          .weight_factor = RealKnob(config.weight_factor()),
          .once_per_layer = false,
          .temperature = RealKnob(config.temperature()),
          .prompt_length = IntegerKnob(config.prompt_length())};
}

// A family of networks with this cell. Errors: InvalidArgument if a prompt may be longer than a row.
absl::StatusOr<std::unique_ptr<Family>> MakeRecurrentFamily(Cell cell, RecurrentKnobs knobs,
                                                            const FamilyContext& context, const std::string& path);

class RecurrentProgram final : public Program {
 public:
  // Allocates what the largest program of these knobs needs; nothing is allocated later. `knobs` must outlive the
  // program.
  RecurrentProgram(Cell cell, const RecurrentKnobs& knobs, const FamilyContext& context, int max_rows);

  void Sample(Rng& rng) override;
  int prompt_length() const override { return prompt_length_; }
  bool watchable() const override { return true; }
  void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) override;
  std::string Describe() const override;

  // ---- For tests: the sampled network, number by number. ----

  const RecurrentNet& net() const { return net_; }
  float Embedding(int symbol, int k) const { return net_.embedding[symbol * net_.embedding_width + k]; }
  // gate: in the order of the family's definition; k counts the inputs as above.
  float LayerWeight(int layer, int gate, int unit, int k) const;
  float LayerBias(int layer, int gate, int unit) const;
  // GRU: the second bias of gate n.
  float OwnBias(int layer, int unit) const { return net_.layer[layer].own_bias[unit]; }
  float OutputWeight(int symbol, int k) const;
  float OutputBias(int symbol) const { return net_.output_bias[symbol]; }
  // As Run, for at most max_rows rows, and writes the logits from which each token was chosen: [token][row][alphabet].
  void RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out, float* logits);

 private:
  void DrawBias(Rng& rng, float bound, float* draws, float* bias, float* own_bias) const;
  void DrawPanel(Rng& rng, float bound, int inputs, int units, float* draws, float* panel) const;

  const RecurrentKnobs& knobs_;
  FamilyContext context_;
  int max_rows_;
  int prompt_length_ = 0;
  float embedding_scale_ = 0;
  float weight_factor_ = 0;
  float factor_ = 0;
  RecurrentNet net_;
  hwy::AlignedFreeUniquePtr<float[]> memory_;
  const float* weights_[kMaxRecurrentLayers] = {};  // each layer's first panel
  float* scratch_ = nullptr;
  std::vector<Rng> rngs_;
};

}  // namespace iterand
