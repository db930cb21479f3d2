// Random LSTM that writes a row token by token while it reads another (Bloem 2025, "Universal pre-training by iterated
// random computation", arXiv 2506.20057).
//
// Definition. H = hidden, L = layers, A = alphabet, D = embedding width (0 means H), f = weight factor, T =
// temperature; x the row being written, z the input row, both of the same length. All arithmetic is float32; chain(a;
// w, v) means the value of a, then a = fma(w_k, v_k, a) for k ascending.
//
//   Factor in force  F = f, or with ONCE_PER_LAYER f * f * ... * f (L factors, multiplied one after the other).
//   Bounds           a = 1 / sqrt(H), b = a * F.
//
//   Draws of Sample, in this order:
//     1. the knobs: layers, hidden, embedding, embedding_scale, weight_factor, temperature, prompt_length;
//     2. the embedding E, A x D row-major: embedding_scale * Normal(); both x and z use it;
//     3. layer by layer: the first bias vector, 4H values Uniform(-b, b), then the second, likewise; their sum is the
//     bias. Then
//        the weights: for every group of 16 units, for every gate in the order i, f, g, o, for every input k ascending,
//        for every unit of the group ascending: Uniform(-b, b). Layer 0 has the inputs E(x) (D), E(z) (D), own h (H);
//        the layers above have h of the layer below (H), own h (H). A bias vector is in PyTorch's order: gate, then
//        unit;
//     4. the output layer: A biases Uniform(-a, a); then for every group of 16 symbols, for every k ascending below H,
//     for every
//        symbol of the group: Uniform(-a, a). The factor does not touch it.
//   Uniform(l, h) is Rng::FillUniform's.
//
//   Step t. Layer 0, gate j: (chain(bias_j; W_j, E(x_t)) + chain(0; W_j, E(z_t))), then a chain over its own h(t-1).
//   Layers above: chain from bias_j over h(t) of the layer below, then over the own h(t-1). State and h are 0 before t
//   = 0. Cell, with e(u) = math::GateExp, one division each:
//     p = 1 + e(-i), q = 1 + e(-2g), s = 1 + e(-f), pq = p * q
//     c' = fma(c, pq, (1 - e(-2g)) * s) / (pq * s)                      = sigmoid(f) c + sigmoid(i) tanh(g)
//     h  = (1 - e(-2c')) / ((1 + e(-o)) * (1 + e(-2c')))                = sigmoid(o) tanh(c')
//   Logits: chain from the output bias over h of the last layer.
//
//   Next token. T < 1e-6: the symbol with the largest logit, the lowest of equals. Else weights
//   w_n = e((logit_n - largest) * (1 / T)) (so none is below e^-27.5); S_j = the sum of w_n over n = j mod 16, n
//   ascending; total = S_0 + S_1 + ... + S_15 in this order; u = total * Uniform() of the row's generator, one draw a
//   token. The first j with u < S_j is taken, each S_j before it being subtracted from u; then the first n = j mod 16
//   at which the running sum of w_n exceeds u (the last such n if rounding leaves none; of j likewise).
//
//   The prompt is the beginning of x; with no prompt, x_0 = z_0. Then input (x_t, z_t) gives x_{t+1}.
//
// Every element of this is independent of how many rows run side by side, of vector width and of memory layout.
#pragma once

#include <string>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "randnet/family.h"
#include "randnet/knob.h"
#include "randnet/recurrent_kernels.h"

namespace iterand {

extern const FamilyEntry kLstmEntry;

struct LstmKnobs {
  IntegerKnob layers;
  IntegerKnob hidden;
  IntegerKnob embedding;
  RealKnob embedding_scale;
  RealKnob weight_factor;
  bool once_per_layer = false;
  RealKnob temperature;
  IntegerKnob prompt_length;
};

class LstmProgram final : public Program {
 public:
  // Allocates what the largest program of these knobs needs; nothing is allocated later. `knobs` must outlive the
  // program.
  LstmProgram(const LstmKnobs& knobs, const FamilyContext& context, int max_rows);

  void Sample(Rng& rng) override;
  int prompt_length() const override { return prompt_length_; }
  void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) override;
  std::string Describe() const override;

  // ---- For tests: the sampled network, number by number. ----

  const RecurrentNet& net() const { return net_; }
  int embedding_width() const { return net_.embedding_width; }
  float Embedding(int symbol, int k) const { return net_.embedding[symbol * net_.embedding_width + k]; }
  // gate: 0 to 3 for i, f, g, o; k counts the inputs as in the definition above.
  float LayerWeight(int layer, int gate, int unit, int k) const;
  float LayerBias(int layer, int gate, int unit) const;
  float OutputWeight(int symbol, int k) const;
  float OutputBias(int symbol) const { return net_.output_bias[symbol]; }
  // As Run, for at most max_rows rows, and writes the logits from which each token was chosen: [token][row][alphabet].
  void RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out, float* logits);

 private:
  void DrawBias(Rng& rng, float bound, float* draws, float* bias) const;
  void DrawPanel(Rng& rng, float bound, int inputs, int units, float* draws, float* panel) const;

  const LstmKnobs& knobs_;
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
