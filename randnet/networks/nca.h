// Neural cellular automata: a random network is the local rule of a grid of colours, and the row is the sequence of its
// frames (Lee et al. 2026, "Training language models via neural cellular automata", arXiv 2603.10055).
//
// Definition. A grid of height x width cells, wrapped around in both directions; C colours; F features; H hidden units;
// T = temperature. All arithmetic is float32; chain is that of randnet/base/matrix.h.
//
//   Draws of Sample, in this order:
//     1. the knobs: colours (at most the alphabet's), features, hidden, weight_scale (s), bias_scale (b),
//        identity_bias, temperature, warm_up;
//     2. the convolution. P = 9 positions of the 3x3 neighbourhood in row-major order (the cell itself is the fifth),
//        or the 3 of a one-dimensional grid, left to right. Weights P x C x F row-major: s / sqrt(P C) * Normal(); then
//        F biases: b * Normal();
//     3. hidden weights H x F row-major: s / sqrt(F) * Normal(); then H biases: b * Normal();
//     4. output weights C x H row-major: s / sqrt(H) * Normal(); then C biases: b * Normal().
//   Biases are not drawn, and are 0, where b is 0.
//
//   First grid. NOISE: cell after cell, row-major, Below(C) of the row's generator. INPUT: cell i has colour z[i mod
//   length] mod C, z the input row.
//
//   Step. The input of the convolution is the one-hot code of the colours, so a feature is its bias plus one weight per
//   position, added in the positions' order (which is what a chain over all P C inputs gives). hidden = max(0,
//   chain(bias; weights, features)), logits = chain(bias; weights, hidden); identity_bias is added to the logit of the
//   cell's own colour. The next colour: with T < 1e-6 the largest logit, the lowest colour of equals. Else d_c =
//   (logit_c - largest) * (1 / T); colours with d_c < -20 are out. If one remains it is taken and nothing is drawn.
//   Else, with w_c = math::GateExp(d_c) of the others, u = (sum of w_c, c ascending) * Uniform() of the row's
//   generator, and the first c at which the running sum of w exceeds u is taken (the last one, if rounding leaves
//   none). Cells draw in row-major order.
//
//   Tokens. After `warm_up` steps the grid is the first frame; each further frame is one step later. A frame is cut
//   into patches of patch_height x patch_width cells, row-major; a patch is the number whose digits in base C are its
//   cells, row-major, the first the most significant. With frame_marks, a frame is preceded by the token C^n and
//   followed by C^n + 1, n being the cells of a patch. The row is the frames one after another, cut at its length.
//
// The paper's figures are the defaults: 12 x 12 cells, 10 colours, 4 features, 16 hidden units, T = 1e-4, patches of 2
// x 2 cells, hence an alphabet of 10 002. On smaller alphabets patches are made smaller: 1 x 2 cells from 102 symbols
// on, single cells below, if patch_height and patch_width are not given. With height 1 the grid is one-dimensional;
// single cells of up to as many colours as the alphabet has symbols make it an automaton on bytes, and with `start`
// INPUT it reads its row. The paper says only that its weights are initialised at random; ours is the usual
// initialisation that keeps the variance (s = 1).
#pragma once

#include <vector>

#include "randnet/base/matrix.h"
#include "randnet/family.h"
#include "randnet/knob.h"
#include "randnet/networks/nca_kernels.h"

namespace iterand {

struct NcaKnobs {
  int height;
  int width;
  int patch_height;
  int patch_width;
  bool frame_marks;
  bool start_from_input;
  IntegerKnob colours;
  IntegerKnob features;
  IntegerKnob hidden;
  RealKnob weight_scale;
  RealKnob bias_scale;
  RealKnob identity_bias;
  RealKnob temperature;
  IntegerKnob warm_up;
};

class NcaProgram final : public Program {
 public:
  NcaProgram(const NcaKnobs& knobs, const FamilyContext& context);

  void Sample(Rng& rng) override;
  void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) override;
  std::string Describe() const override;

  // The sampled rule; for tests.
  const NcaNet& net() const { return net_; }
  int warm_up() const { return warm_up_; }

 private:
  void DrawBias(Rng& rng, int count, matrix::Floats& bias);
  void WriteFrame(const Symbol* grid, std::span<Symbol>& out) const;

  const NcaKnobs& knobs_;
  float weight_scale_ = 0;
  float bias_scale_ = 0;
  int warm_up_ = 0;
  Symbol mark_ = 0;  // of a frame's beginning
  NcaNet net_;
  matrix::Floats draws_;
  matrix::Floats neighbour_weights_;
  matrix::Floats feature_bias_;
  matrix::Floats hidden_weights_;
  matrix::Floats hidden_bias_;
  matrix::Floats output_weights_;
  matrix::Floats output_bias_;
  matrix::Floats logits_;
  std::vector<Symbol> grids_;
};

extern const FamilyEntry kNcaEntry;

}  // namespace iterand
