// What both modes of a transformer's program share: its memory, its draws, caches and the layers that do not attend.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "randnet/base/math.h"
#include "randnet/networks/prompt.h"
#include "randnet/networks/transformer.h"
#include "randnet/networks/transformer_kernels.h"

namespace iterand {
namespace {

constexpr int kMaxPaperLayers = 64;

int LargestDivisor(int width, int most) {
  int heads = std::min(width, most);
  while (width % heads != 0) --heads;
  return heads;
}

}  // namespace

int TransformerPaperLayers(int width) {
  const auto layers = static_cast<int>(std::floor((math::Log(static_cast<float>(width)) - 5.039F) / 0.0555F + 0.5F));
  return std::clamp(layers, 1, kMaxPaperLayers);
}

// A head of any width is padded to whole panels.
TransformerBuffers LargestBuffers(const TransformerSizes& sizes, int rows) {
  TransformerBuffers buffers;
  const std::size_t slots = Size(matrix::Padded(sizes.sequential ? sizes.window : sizes.length));
  // Keys of all heads of a row take W floats per slot. Values take W padded head by head: each head may waste up to a
  // panel.
  const std::size_t row = slots * (2 * Size(sizes.width) + Size(sizes.heads) * matrix::kPanel);
  if (sizes.sequential) {
    buffers.lines = Size(rows);
    buffers.cache = 2 * Size(sizes.layers) * Size(rows) * row;
    buffers.scores = slots;
  } else {
    buffers.lines = Size(sizes.length);
    buffers.cache = slots * (2 * Size(sizes.width) + matrix::kPanel);  // one head, as wide as the network at most
    buffers.scores = TransformerProgram::kQueries * slots;
  }
  return buffers;
}

TransformerProgram::TransformerProgram(const TransformerKnobs& knobs, const FamilyContext& context,
                                       const TransformerSizes& largest, int max_rows)
    : knobs_(knobs), context_(context) {
  const int width = largest.width;
  const std::size_t w = Size(width);
  embedding_.reserve(Size(context.alphabet) * w);
  positions_.reserve(Size(context.length) * w);
  layer_.resize(Size(largest.layers));
  for (Layer& layer : layer_) {
    layer.qkv.Reserve(width, 3 * width);
    layer.output.Reserve(width, width);
    if (knobs.sequential) {
      layer.cross_query.Reserve(width, width);
      layer.cross_kv.Reserve(width, 2 * width);
      layer.cross_output.Reserve(width, width);
    }
    layer.first.Reserve(width, largest.feed_forward);
    layer.second.Reserve(largest.feed_forward, width);
  }
  head_.Reserve(width, outputs());
  const TransformerBuffers buffers = LargestBuffers(largest, max_rows);
  values_.reserve(buffers.lines * w);
  if (knobs.sequential) memory_.reserve(buffers.lines * w);
  qkv_.reserve(buffers.lines * 3 * w);
  attended_.reserve(buffers.lines * w);
  added_.reserve(buffers.lines * w);
  inner_.reserve(kChunk * Size(largest.feed_forward));
  caches_.reserve(buffers.cache);
  scores_.reserve(buffers.scores);
  gathered_.reserve(kQueries * w);
  logits_.reserve(kChunk * Size(matrix::Padded(outputs())));
  rngs_.reserve(Size(max_rows));
}

void TransformerProgram::Sample(Rng& rng) {
  width_ = matrix::Padded(knobs_.width.Draw(rng));
  layers_ = knobs_.layers.Draw(rng);
  if (layers_ == 0) layers_ = TransformerPaperLayers(width_);
  heads_ = LargestDivisor(width_, knobs_.heads.Draw(rng));
  feed_forward_ = knobs_.feed_forward.Draw(rng) * width_;
  embedding_scale_ = knobs_.embedding_scale.Draw(rng);
  position_scale_ = knobs_.position_scale.Draw(rng);
  weight_factor_ = knobs_.weight_factor.Draw(rng);
  head_scale_ = knobs_.head_scale.Draw(rng);
  head_bias_scale_ = knobs_.head_bias_scale.Draw(rng);
  temperature_ = knobs_.temperature.Draw(rng);
  prompt_length_ = knobs_.prompt_length.Draw(rng);

  embedding_.resize(Size(context_.alphabet) * Size(width_));
  FillNormal(rng, embedding_scale_, embedding_);
  positions_.resize(Size(context_.length) * Size(width_));
  FillNormal(rng, position_scale_, positions_);
  const auto draw = [&](matrix::Linear& linear, int inputs, int outputs) {
    linear.Draw(rng, inputs, outputs, weight_factor_ / std::sqrt(static_cast<float>(inputs)), 0.0F);
  };
  for (int l = 0; l < layers_ && !stopped(); ++l) {
    Layer& layer = layer_[Size(l)];
    draw(layer.qkv, width_, 3 * width_);
    draw(layer.output, width_, width_);
    if (knobs_.sequential) {
      draw(layer.cross_query, width_, width_);
      draw(layer.cross_kv, width_, 2 * width_);
      draw(layer.cross_output, width_, width_);
    }
    draw(layer.first, width_, feed_forward_);
    draw(layer.second, feed_forward_, width_);
  }
  head_.Draw(rng, width_, outputs(), head_scale_ / static_cast<float>(width_), head_bias_scale_);
}

std::size_t TransformerProgram::CacheFloats(int slots) const {
  return Size(slots) * Size(head_width() + matrix::Padded(head_width()));
}

TransformerProgram::Cache TransformerProgram::CacheAt(std::size_t offset, int slots) {
  float* const keys = caches_.data() + offset;
  return {keys, keys + Size(slots) * Size(head_width())};
}

void TransformerProgram::StoreKey(Cache cache, int slot, int slots, const float* key, const float* value) const {
  const int width = head_width();
  float* const to =
      cache.keys + static_cast<std::ptrdiff_t>(slot / matrix::kPanel) * width * matrix::kPanel + slot % matrix::kPanel;
  for (int c = 0; c < width; ++c) to[c * matrix::kPanel] = key[c];
  for (int c = 0; c < width; ++c) {
    cache.values[(static_cast<std::ptrdiff_t>(c / matrix::kPanel) * slots + slot) * matrix::kPanel +
                 c % matrix::kPanel] = value[c];
  }
}

void TransformerProgram::FeedForward(const Layer& layer, int lines) {
  for (int first = 0; first < lines && !stopped(); first += kChunk) {
    const int chunk = std::min(kChunk, lines - first);
    float* const x = values_.data() + static_cast<std::ptrdiff_t>(first) * width_;
    layer.first.Apply(x, width_, chunk, inner_.data(), feed_forward_);
    matrix::Relu(inner_.data(), Size(chunk) * Size(feed_forward_));
    layer.second.Apply(inner_.data(), feed_forward_, chunk, added_.data(), width_);
    AddAndNormalise(added_.data(), width_, chunk, width_, x, width_);
  }
}

void TransformerProgram::Run(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out) {
  RunWithLogits(input, prompt, rng, out, nullptr);
}

void TransformerProgram::RunWithLogits(BlockView input, BlockView prompt, const RowRng& rng, MutableBlockView out,
                                       float* logits) {
  logits_.resize(kChunk * Size(matrix::Padded(outputs())));
  inner_.resize(kChunk * Size(feed_forward_));
  if (!knobs_.sequential) {
    for (int r = 0; r < out.rows() && !stopped(); ++r)
      RunParallel(input.row(r), rng.ForRow(r), out.row(r), out.length(), logits);
    return;
  }
  const int start = BeginRows(input, prompt, out);
  RunSequential(input, start, rng, out, logits);
}

std::string TransformerProgram::Describe() const {
  return absl::StrCat("mode=", knobs_.sequential ? "SEQUENTIAL" : "PARALLEL", " width=", width_, " layers=", layers_,
                      " heads=", heads_, " feed_forward=", feed_forward_, " embedding_scale=", embedding_scale_,
                      " position_scale=", position_scale_, " weight_factor=", weight_factor_,
                      " head_scale=", head_scale_, " head_bias_scale=", head_bias_scale_, " temperature=", temperature_,
                      knobs_.sequential ? absl::StrCat(" window=", knobs_.window, " prompt_length=", prompt_length_)
                                        : absl::StrCat(" mask=", has_mask()));
}

}  // namespace iterand
