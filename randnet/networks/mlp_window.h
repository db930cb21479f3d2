// Random networks on the last few tokens: sources of order n, deterministic or at a temperature.
//
// Definition. n = order, m = input_window, k = symbols (at most the alphabet), L = layers, H = hidden, f =
// weight_factor, T = temperature; x the row being written, z the input row; symbol s has the code s mod k. All
// arithmetic is float32; chain is that of randnet/base/matrix.h.
//
//   Draws of Sample, in this order:
//     1. the knobs: order, input_window, symbols, layers, hidden, weight_factor, output_scale (o), temperature;
//     2. the first layer: H biases, then its weights (n + m) x k x H row-major, all f / sqrt(n + m) * Normal();
//     3. the hidden layers above, Linear::Draw with f / sqrt(H) for weights and biases;
//     4. the output layer, likewise with o / sqrt(H).
//
//   Step t. The first layer's pre-activations are its biases plus one weight for each token of the window, added in
//   this order: codes of x_t, x_{t-1}, ..., x_{t-n+1} with the weights 0 .. n - 1, then of z_t, ..., z_{t-m+1} with the
//   weights n .. n + m - 1; what lies before the row's beginning adds nothing. Hidden layers: tanh (math::Tanh). The
//   symbol that randnet/networks/recurrent.h's "Next token" chooses by the k logits is x_{t+1}.
//
//   The prompt, n tokens, is the beginning of x.
//
// At temperature 0 and without input the row is a walk in a map of k^n contexts into themselves, so it runs into a
// cycle. With m = 0 the family does not read its input.
#pragma once

#include <algorithm>
#include <vector>

#include "randnet/base/matrix.h"
#include "randnet/family.h"
#include "randnet/knob.h"

namespace iterand {

struct MlpWindowKnobs {
  IntegerKnob order;
  IntegerKnob input_window;
  IntegerKnob symbols;
  IntegerKnob layers;
  IntegerKnob hidden;
  RealKnob weight_factor;
  RealKnob output_scale;
  RealKnob temperature;
};

class MlpWindowProgram final : public Program {
 public:
  MlpWindowProgram(const MlpWindowKnobs& knobs, const FamilyContext& context, int max_rows);

  void Sample(Rng& rng) override;
  int prompt_length() const override { return std::min(order_, context_.length); }
  void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) override;
  std::string Describe() const override;

  // Run that also stores the logits of every step from the prompt's end on, in the order [step][row][symbol]; for
  // tests.
  void RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out, float* logits);

  // The sampled network; for tests.
  int order() const { return order_; }
  int input_window() const { return input_window_; }
  int symbols() const { return symbols_; }
  int layers() const { return layers_; }
  int hidden() const { return hidden_; }
  float first_bias(int unit) const { return first_bias_[static_cast<std::size_t>(unit)]; }
  float first_weight(int place, int code, int unit) const { return FirstWeights(place, code)[unit]; }
  // Layers 1 .. L - 1 are hidden, layer L is the output.
  const matrix::Linear& layer(int l) const { return linear_[static_cast<std::size_t>(l - 1)]; }

 private:
  const float* FirstWeights(int place, int code) const {
    return first_weights_.data() +
           (static_cast<std::ptrdiff_t>(place) * symbols_ + code) * static_cast<std::ptrdiff_t>(hidden_);
  }

  // Writes the lines of the first layer's weights that each row adds up at step t, and returns how many a row has.
  int FindLines(BlockView input, int t, MutableBlockView out);

  const MlpWindowKnobs& knobs_;
  FamilyContext context_;
  int order_ = 1;
  int input_window_ = 0;
  int symbols_ = 2;
  int layers_ = 1;
  int hidden_ = 1;
  float weight_factor_ = 0;
  float output_scale_ = 0;
  float temperature_ = 0;
  matrix::Floats first_bias_;
  matrix::Floats first_weights_;
  std::vector<matrix::Linear> linear_;
  matrix::Floats states_[2];  // rows x padded hidden
  matrix::Floats logits_;
  std::vector<std::int32_t> lines_;  // rows x window
  std::vector<Rng> rngs_;
  std::vector<Symbol> chosen_;
};

extern const FamilyEntry kMlpWindowEntry;

}  // namespace iterand
