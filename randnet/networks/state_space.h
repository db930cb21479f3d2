// Random state space models: diagonal linear recurrences with gates, in layers, that write a row token by token while
// they read another (the form of Gu and Dao 2023, "Mamba", arXiv 2312.00752, and Orvieto et al. 2023, "Resurrecting
// recurrent neural networks for long sequences", arXiv 2303.06349, with random weights).
//
// Definition. D = width, L = layers, A = alphabet, f = weight_factor, T = temperature; x the row being written, z the
// input row. All arithmetic is float32; chain is that of randnet/base/matrix.h; Normal, Uniform and Linear::Draw are
// those of randnet/base/rng.h and matrix.h.
//
//   Draws of Sample, in this order:
//     1. the knobs: layers, width, shortest_time, longest_time (at least shortest_time), embedding_scale (e),
//        weight_factor, temperature, prompt_length;
//     2. the embeddings Ex, then Ez, each A x D row-major: e * Normal();
//     3. layer by layer: D numbers u = Uniform(); D pairs a, b = Normal(), Normal(); then the mixer Y (2D inputs, D
//        outputs, weights and biases of scale f / sqrt(2D)) and the gate G (D inputs, D outputs, f / sqrt(D)), by
//        Linear::Draw;
//     4. the output layer (D inputs, A outputs, 1 / sqrt(D)), likewise.
//   Channel i of a layer has the time constant tau = Exp(fma(u, ln longest - ln shortest, ln shortest)), the radius r =
//   Exp(-1 / tau), the eigenvalue (p, q) = (r (a / s), r (b / s)) with s = sqrt(fma(a, a, b b)) (a uniform angle), and
//   the input factor g = sqrt(1 - r r).
//
//   Step t. v = Ex(x_t) + Ez(z_t); then layer by layer, the complex state (re, im) of a channel being 0 before t = 0:
//     re' = fma(p, re, fma(-q, im, g v)), im' = fma(p, im, q re)
//     y = chain(bias; Y, (re' of all channels, im' of all channels)), c = chain(bias; G, v)
//     v = (1 - e(-2y)) / ((1 + e(-2y)) (1 + e(-c)))                  = tanh(y) sigmoid(c), with e(.) = math::GateExp
//   Logits: chain from the output biases over v of the last layer; x_{t+1} is the symbol that
//   randnet/networks/recurrent.h's "Next token" chooses.
//
//   The prompt is the beginning of x; with no prompt, x_0 = z_0.
#pragma once

#include <vector>

#include "randnet/base/matrix.h"
#include "randnet/family.h"
#include "randnet/knob.h"

namespace iterand {

struct StateSpaceKnobs {
  IntegerKnob layers;
  IntegerKnob width;
  RealKnob shortest_time;
  RealKnob longest_time;
  RealKnob embedding_scale;
  RealKnob weight_factor;
  RealKnob temperature;
  IntegerKnob prompt_length;
};

class StateSpaceProgram final : public Program {
 public:
  struct Layer {
    matrix::Floats p, q, g;  // D each
    matrix::Linear mixer;
    matrix::Linear gate;
  };

  StateSpaceProgram(const StateSpaceKnobs& knobs, const FamilyContext& context, int max_rows);

  void Sample(Rng& rng) override;
  int prompt_length() const override { return prompt_length_; }
  bool watchable() const override { return true; }
  void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) override;
  std::string Describe() const override;

  // Run that also stores the logits of every step from the prompt's end on, in the order [step][row][symbol]; for
  // tests.
  void RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out, float* logits);

  // The sampled network; for tests.
  int layers() const { return layers_; }
  int width() const { return width_; }
  const Layer& layer(int l) const { return layer_[static_cast<std::size_t>(l)]; }
  const matrix::Linear& output() const { return output_; }
  const float* embedding_x(int symbol) const {
    return embedding_x_.data() + static_cast<std::ptrdiff_t>(symbol) * width_;
  }
  const float* embedding_z(int symbol) const {
    return embedding_z_.data() + static_cast<std::ptrdiff_t>(symbol) * width_;
  }

 private:
  const StateSpaceKnobs& knobs_;
  FamilyContext context_;
  int layers_ = 1;
  int width_ = 1;
  int prompt_length_ = 0;
  float shortest_time_ = 1;
  float longest_time_ = 1;
  float embedding_scale_ = 0;
  float weight_factor_ = 0;
  float temperature_ = 0;
  matrix::Floats embedding_x_;
  matrix::Floats embedding_z_;
  std::vector<Layer> layer_;
  matrix::Linear output_;
  matrix::Floats draws_;
  matrix::Floats states_;  // [layer][row][re of all channels, im of all channels]
  matrix::Floats values_;  // v: rows x padded width
  matrix::Floats mixed_;   // y likewise
  matrix::Floats gates_;   // c likewise
  matrix::Floats logits_;
  std::vector<Rng> rngs_;
};

extern const FamilyEntry kStateSpaceEntry;

}  // namespace iterand
