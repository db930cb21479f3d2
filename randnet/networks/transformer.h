// Random causal transformers (the earlier source of Bloem 2025, arXiv 2506.20057; Vaswani et al. 2017 for the network).
//
// Definition. W = width (the knob's value rounded up to a multiple of 16), L = layers, B = heads (the largest divisor
// of W not above the knob's value), w = W / B, M = feed_forward * W, A = alphabet, f = weight_factor, T = temperature;
// z the input row. All arithmetic is float32; chain and Linear::Draw are those of randnet/base/matrix.h; sums along
// vectors, LayerNorm and attention weights are those of randnet/networks/transformer_kernels.h.
//
//   Layers. With `layers` 0, L = floor((Log(W) - 5.039) / 0.0555 + 1/2), at least 1: the paper's rule.
//
//   Draws of Sample, in this order:
//     1. the knobs: width, layers, heads, feed_forward, embedding_scale, position_scale, weight_factor, head_scale,
//        head_bias_scale, temperature, prompt_length;
//     2. token embeddings E, A x W row-major: embedding_scale * Normal(); then positions P, length x W: position_scale
//        * Normal();
//     3. layer by layer: queries, keys and values (W inputs, 3W outputs), the attention's output (W, W); in the
//        sequential mode the cross attention's queries (W, W), keys and values (W, 2W), output (W, W); the feed-forward
//        layer (W, M) and (M, W). All weights are f / sqrt(inputs) * Normal(); there are no biases;
//     4. the head (W inputs; A outputs, and one more, the mask, with `mask` in the parallel mode): biases
//        head_bias_scale * Normal(), weights head_scale / W * Normal().
//
//   Block. x = LayerNorm(x + attention(x)); in the sequential mode x = LayerNorm(x + cross attention(x)); then x =
//   LayerNorm(x + chain(0; second, max(0, chain(0; first, x)))). Attention of head b: the scores of a query against a
//   key are chains over the head's w channels; the weights w_j are those of AttentionWeights with the scale 1 /
//   sqrt(w); the head's value is chain(0; value_j, w_j over the slots j ascending) * (1 / sum of w_j). The values of
//   all heads side by side, through the output layer, are the attention.
//
//   PARALLEL. x_t = E(z_t) + P_t; position t attends to the keys 0 .. t, the slot of a key being its position. The
//   head's logits of position t give a symbol by randnet/networks/recurrent.h's "Next token" (one draw per position, t
//   ascending); it becomes out_t, unless the mask's logit is not positive: then out_t = z_t. One pass over the row;
//   nothing is autoregressive.
//
//   SEQUENTIAL. The prompt is the beginning of out; with no prompt, out_0 = z_0. For each t, x = E(out_t) + P_t; the
//   logits give out_{t+1}. Self attention sees the keys of the positions t - window + 1 .. t, cross attention the keys
//   of E(z_j) + P_j for the same j; the slot of a key is its position modulo the window.
//
// The published program's mask test is true nearly everywhere, ours compares with zero. Its sequential variant computes
// a window of 64 tokens again for each token; here keys and values stay as they were computed, which costs a 64th and
// lets a token depend on what is before the window, layer by layer.
#pragma once

#include <algorithm>
#include <vector>

#include "randnet/base/matrix.h"
#include "randnet/family.h"
#include "randnet/knob.h"

namespace iterand {

struct TransformerKnobs {
  bool sequential;
  bool mask;
  int window;
  IntegerKnob width;
  IntegerKnob layers;
  IntegerKnob heads;
  IntegerKnob feed_forward;
  RealKnob embedding_scale;
  RealKnob position_scale;
  RealKnob weight_factor;
  RealKnob head_scale;
  RealKnob head_bias_scale;
  RealKnob temperature;
  IntegerKnob prompt_length;
};

// Sizes that bound every program of a family.
struct TransformerSizes {
  int width = 16;
  int layers = 1;
  int heads = 1;
  int feed_forward = 64;
  int alphabet = 256;
  int length = 512;
  bool sequential = false;
  int window = 64;
};

// Floats of a program's largest buffers.
struct TransformerBuffers {
  std::size_t lines;  // that are in memory at once; no floats
  std::size_t cache;
  std::size_t scores;
};
TransformerBuffers LargestBuffers(const TransformerSizes& sizes, int rows);

// The paper's depth of a width: `layers` 0.
int TransformerPaperLayers(int width);

class TransformerProgram final : public Program {
 public:
  struct Layer {
    matrix::Linear qkv;
    matrix::Linear output;
    matrix::Linear cross_query;
    matrix::Linear cross_kv;
    matrix::Linear cross_output;
    matrix::Linear first;
    matrix::Linear second;
  };

  TransformerProgram(const TransformerKnobs& knobs, const FamilyContext& context, const TransformerSizes& largest,
                     int max_rows);

  void Sample(Rng& rng) override;
  int prompt_length() const override { return knobs_.sequential ? prompt_length_ : 0; }
  void Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) override;
  std::string Describe() const override;

  // Run that also stores the logits, the mask's included: in the order [row][position] in the parallel mode,
  // [step][row] from the prompt's end on in the sequential mode; for tests.
  void RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out, float* logits);

  static constexpr int kQueries = 48;  // queries whose scores are computed together
  static constexpr int kChunk = 96;    // lines that pass the feed-forward layer, or the head, together

  // The sampled network; for tests.
  int width() const { return width_; }
  int layers() const { return layers_; }
  int heads() const { return heads_; }
  const Layer& layer(int l) const { return layer_[static_cast<std::size_t>(l)]; }
  const matrix::Linear& head() const { return head_; }
  const float* embedding(int symbol) const { return embedding_.data() + static_cast<std::ptrdiff_t>(symbol) * width_; }
  const float* position(int t) const { return positions_.data() + static_cast<std::ptrdiff_t>(t) * width_; }

 private:
  // Keys and values of one row and one head, laid out for matrix::Multiply: keys are panels of 16 slots, values panels
  // of 16 channels.
  struct Cache {
    float* keys;
    float* values;
  };

  int head_width() const { return width_ / heads_; }
  int outputs() const { return context_.alphabet + (has_mask() ? 1 : 0); }
  bool has_mask() const { return knobs_.mask && !knobs_.sequential; }

  // ---- Of both modes (transformer_program.cc). ----

  // The keys and values of one head with `slots` slots, a multiple of 16: floats, and where they are.
  std::size_t CacheFloats(int slots) const;
  Cache CacheAt(std::size_t offset, int slots);
  void StoreKey(Cache cache, int slot, int slots, const float* key, const float* value) const;
  // x = LayerNorm(x + the feed-forward layer of x) for the first `lines` lines of values_.
  void FeedForward(const Layer& layer, int lines);
  // Calls write(line, logits) for the first `lines` lines of values_, in ascending order, and copies the logits.
  template <typename Write>
  void ForEachLogits(int lines, float*& copy, const Write& write);

  // ---- PARALLEL: one pass over a row (transformer_parallel.cc). ----

  // Resizes in steps, since zeroing large memory takes tens of milliseconds. False if the computation was stopped.
  bool Resize(matrix::Floats& floats, std::size_t size) const;
  void RunParallel(const Symbol* z, Rng rng, Symbol* out, int length, float*& logits);
  // Causal attention of all positions of a row: from qkv_ to attended_.
  void Attend(int length);

  // ---- SEQUENTIAL: all rows, step by step (transformer_sequential.cc). ----

  enum class Attention { kSelf, kCross };
  void RunSequential(BlockView input, int start, const RowRng& rng, MutableBlockView out, float* logits);
  // From values_ and memory_ to values_, in all layers. False if the computation was stopped.
  bool Step(int t, int rows);
  // Attention of all rows at step t, from queries, keys and values to attended_; strides are floats from row to row.
  void AttendRows(int layer, Attention kind, int t, int rows, const float* query, int query_stride, const float* kv,
                  int kv_stride);
  // Of one head of one row: stores the key and value, and writes what the query sees to `out`.
  void AttendStep(Cache cache, int t, const float* query, const float* key, const float* value, float* out);

  const TransformerKnobs& knobs_;
  FamilyContext context_;
  int width_ = 16;
  int layers_ = 1;
  int heads_ = 1;
  int feed_forward_ = 16;
  int prompt_length_ = 0;
  float embedding_scale_ = 0;
  float position_scale_ = 0;
  float weight_factor_ = 0;
  float head_scale_ = 0;
  float head_bias_scale_ = 0;
  float temperature_ = 0;
  matrix::Floats embedding_;
  matrix::Floats positions_;
  std::vector<Layer> layer_;
  matrix::Linear head_;
  // Buffers. A "line" is a position of a row (parallel) or a row (sequential).
  matrix::Floats values_;    // lines x width: x
  matrix::Floats memory_;    // sequential: rows x width, E(z_t) + P_t
  matrix::Floats qkv_;       // lines x 3 width
  matrix::Floats attended_;  // lines x width
  matrix::Floats added_;     // lines x width
  matrix::Floats inner_;     // chunk of lines x feed-forward
  matrix::Floats caches_;    // keys and values; parallel: of one head, sequential: [layer][self, cross][row][head]
  matrix::Floats scores_;    // chunk of queries x padded keys
  matrix::Floats gathered_;  // chunk of queries x padded head width
  matrix::Floats logits_;    // chunk of lines x padded outputs
  std::vector<Rng> rngs_;
};

template <typename Write>
void TransformerProgram::ForEachLogits(int lines, float*& copy, const Write& write) {
  const int stride = matrix::Padded(outputs());
  for (int first = 0; first < lines && !stopped(); first += kChunk) {
    const int chunk = std::min(kChunk, lines - first);
    head_.Apply(values_.data() + static_cast<std::ptrdiff_t>(first) * width_, width_, chunk, logits_.data(), stride);
    for (int i = 0; i < chunk; ++i) {
      float* const at = logits_.data() + static_cast<std::ptrdiff_t>(i) * stride;
      if (copy != nullptr) copy = std::copy_n(at, outputs(), copy);
      write(first + i, at);
    }
  }
}

extern const FamilyEntry kTransformerEntry;

}  // namespace iterand
