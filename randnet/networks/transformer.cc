#include "randnet/networks/transformer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "randnet/base/math.h"
#include "randnet/check.h"
#include "randnet/networks/prompt.h"
#include "randnet/networks/transformer_kernels.h"

namespace iterand {
namespace {

constexpr int kMaxWidth = 2048;
constexpr int kMaxLayers = 64;
constexpr int kMaxHeads = 64;
constexpr int kMaxFeedForward = 8;
constexpr int kMaxWindow = 4096;
constexpr int kQueries = 48;  // queries whose scores are computed together
constexpr int kChunk = 96;    // lines that pass the feed-forward layer, or the head, together

// Lines that pass the projections of the attention together: so many that this takes no more than some milliseconds.
constexpr int ProjectedLines(int width) { return width <= 512 ? 512 : kChunk; }

// The paper's depth of a width.
int PaperLayers(int width) {
  const auto layers = static_cast<int>(std::floor((math::Log(static_cast<float>(width)) - 5.039F) / 0.0555F + 0.5F));
  return std::clamp(layers, 1, kMaxLayers);
}

int LargestDivisor(int width, int most) {
  int heads = std::min(width, most);
  while (width % heads != 0) --heads;
  return heads;
}

TransformerSizes LargestSizes(const TransformerKnobs& knobs, const FamilyContext& context) {
  TransformerSizes sizes;
  sizes.width = matrix::Padded(knobs.width.high());
  sizes.layers = std::max(knobs.layers.high(), knobs.layers.low() == 0 ? PaperLayers(sizes.width) : 1);
  sizes.heads = knobs.heads.high();
  sizes.feed_forward = knobs.feed_forward.high() * sizes.width;
  sizes.alphabet = context.alphabet;
  sizes.length = context.length;
  sizes.sequential = knobs.sequential;
  sizes.window = std::min(knobs.window, context.length);
  return sizes;
}

// Floats of the largest buffers: of lines that are in memory at once, and of caches. A head of any width is padded to
// whole panels.
struct BufferSizes {
  std::size_t lines;
  std::size_t cache;
  std::size_t scores;
};

BufferSizes LargestBuffers(const TransformerSizes& sizes, int rows) {
  BufferSizes buffers;
  const std::size_t slots = Size(matrix::Padded(sizes.sequential ? sizes.window : sizes.length));
  // Keys of all heads of a row take W floats a slot. Values take W padded head by head: each head may waste up to a
  // panel.
  const std::size_t row = slots * (2 * Size(sizes.width) + Size(sizes.heads) * matrix::kPanel);
  if (sizes.sequential) {
    buffers.lines = Size(rows);
    buffers.cache = 2 * Size(sizes.layers) * Size(rows) * row;
    buffers.scores = slots;
  } else {
    buffers.lines = Size(sizes.length);
    buffers.cache = slots * (2 * Size(sizes.width) + matrix::kPanel);  // one head, as wide as the network at most
    buffers.scores = kQueries * slots;
  }
  return buffers;
}

}  // namespace

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
  const BufferSizes buffers = LargestBuffers(largest, max_rows);
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
  if (layers_ == 0) layers_ = PaperLayers(width_);
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

// Floats of the keys and values of one head with so many slots, a multiple of 16.
std::size_t TransformerProgram::CacheFloats(int slots) const {
  return Size(slots) * Size(head_width() + matrix::Padded(head_width()));
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

bool TransformerProgram::Resize(matrix::Floats& floats, std::size_t size) const {
  constexpr std::size_t kStep = 1 << 20;
  floats.reserve(size);
  while (floats.size() != size) {
    if (stopped()) return false;
    floats.resize(std::min(size, floats.size() + kStep));
  }
  return true;
}

void TransformerProgram::RunParallel(const Symbol* z, Rng rng, Symbol* out, int length, float*& logits) {
  const std::size_t floats = Size(length) * Size(width_);
  if (!Resize(values_, floats) || !Resize(qkv_, 3 * floats) || !Resize(attended_, floats) || !Resize(added_, floats)) {
    return;
  }
  for (int t = 0; t < length; ++t) {
    if (t % kChunk == 0 && stopped()) return;
    const float* const e = embedding(z[t]);
    const float* const p = position(t);
    float* const x = values_.data() + static_cast<std::ptrdiff_t>(t) * width_;
    for (int n = 0; n < width_; ++n) x[n] = e[n] + p[n];
  }
  const int projected_lines = ProjectedLines(width_);
  for (int l = 0; l < layers_ && !stopped(); ++l) {
    const Layer& layer = layer_[Size(l)];
    for (int first = 0; first < length && !stopped(); first += projected_lines) {
      const int lines = std::min(projected_lines, length - first);
      const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(first) * width_;
      layer.qkv.Apply(values_.data() + at, width_, lines, qkv_.data() + 3 * at, 3 * width_);
    }
    Attend(length);
    for (int first = 0; first < length && !stopped(); first += projected_lines) {
      const int lines = std::min(projected_lines, length - first);
      const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(first) * width_;
      layer.output.Apply(attended_.data() + at, width_, lines, added_.data() + at, width_);
      AddAndNormalise(added_.data() + at, width_, lines, width_, values_.data() + at, width_);
    }
    for (int first = 0; first < length && !stopped(); first += kChunk) {
      const int lines = std::min(kChunk, length - first);
      float* const x = values_.data() + static_cast<std::ptrdiff_t>(first) * width_;
      layer.first.Apply(x, width_, lines, inner_.data(), feed_forward_);
      matrix::Relu(inner_.data(), Size(lines) * Size(feed_forward_));
      layer.second.Apply(inner_.data(), feed_forward_, lines, added_.data(), width_);
      AddAndNormalise(added_.data(), width_, lines, width_, x, width_);
    }
  }
  const int alphabet = context_.alphabet;
  const int stride = matrix::Padded(outputs());
  for (int first = 0; first < length && !stopped(); first += kChunk) {
    const int lines = std::min(kChunk, length - first);
    head_.Apply(values_.data() + static_cast<std::ptrdiff_t>(first) * width_, width_, lines, logits_.data(), stride);
    for (int i = 0; i < lines; ++i) {
      float* const at = logits_.data() + static_cast<std::ptrdiff_t>(i) * stride;
      if (logits != nullptr) logits = std::copy_n(at, outputs(), logits);
      const bool keep = has_mask() && !(at[alphabet] > 0.0F);
      const Symbol symbol = matrix::Choose(at, alphabet, temperature_, rng);
      out[first + i] = keep ? z[first + i] : symbol;
    }
  }
}

// Causal attention of all positions of a row: from qkv_ to attended_.
void TransformerProgram::Attend(int length) {
  const int width = head_width();
  const int padded_width = matrix::Padded(width);
  const int slots = matrix::Padded(length);
  const float scale = 1.0F / std::sqrt(static_cast<float>(width));
  // Zeros stand where a panel has no key or no channel.
  caches_.assign(CacheFloats(slots), 0.0F);
  scores_.resize(kQueries * Size(slots));
  gathered_.resize(kQueries * Size(padded_width));
  const Cache cache{caches_.data(), caches_.data() + Size(slots) * Size(width)};
  for (int head = 0; head < heads_; ++head) {
    const float* const query = qkv_.data() + static_cast<std::ptrdiff_t>(head) * width;
    for (int t = 0; t < length; ++t) {
      const float* const at = query + static_cast<std::ptrdiff_t>(t) * 3 * width_;
      StoreKey(cache, t, slots, at + width_, at + 2 * width_);
    }
    for (int first = 0; first < length && !stopped(); first += kQueries) {
      const int queries = std::min(kQueries, length - first);
      const int keys = first + queries;
      const int padded_keys = matrix::Padded(keys);
      matrix::Multiply(query + static_cast<std::ptrdiff_t>(first) * 3 * width_, 3 * width_, queries, width, cache.keys,
                       static_cast<std::ptrdiff_t>(width) * matrix::kPanel, keys, nullptr, scores_.data(), padded_keys);
      float inverse[kQueries];
      for (int i = 0; i < queries; ++i) {
        inverse[i] = AttentionWeights(scores_.data() + static_cast<std::ptrdiff_t>(i) * padded_keys, first + i + 1,
                                      padded_keys, scale);
      }
      // Keys after a query have the weight 0, so that its chain over all of them is the chain over those that it sees.
      matrix::Multiply(scores_.data(), padded_keys, queries, keys, cache.values,
                       static_cast<std::ptrdiff_t>(slots) * matrix::kPanel, width, nullptr, gathered_.data(),
                       padded_width);
      for (int i = 0; i < queries; ++i) {
        const float* const from = gathered_.data() + static_cast<std::ptrdiff_t>(i) * padded_width;
        float* const to = attended_.data() + static_cast<std::ptrdiff_t>(first + i) * width_ + head * width;
        for (int c = 0; c < width; ++c) to[c] = from[c] * inverse[i];
      }
    }
  }
}

void TransformerProgram::RunSequential(BlockView input, int start, const RowRng& rng, MutableBlockView out,
                                       float* logits) {
  const int rows = out.rows();
  const int slots = matrix::Padded(std::min(knobs_.window, context_.length));
  const std::size_t floats = Size(rows) * Size(width_);
  for (matrix::Floats* buffer : {&values_, &memory_, &attended_, &added_}) buffer->resize(floats);
  qkv_.resize(3 * floats);
  scores_.resize(Size(slots));
  gathered_.resize(Size(matrix::Padded(head_width())));
  const std::size_t cache_floats = CacheFloats(slots);
  caches_.assign(2 * Size(layers_) * Size(rows) * Size(heads_) * cache_floats, 0.0F);
  rngs_.clear();
  for (int r = 0; r < rows; ++r) rngs_.push_back(rng.ForRow(r));
  const int width = head_width();
  // Attention of all rows at step t, `which` being 0 for self and 1 for cross; strides are floats from row to row.
  const auto attend = [&](int l, int which, int t, const float* query, int query_stride, const float* kv,
                          int kv_stride) {
    for (int r = 0; r < rows && !stopped(); ++r) {
      for (int head = 0; head < heads_; ++head) {
        float* const begin =
            caches_.data() + ((Size(2 * l + which) * Size(rows) + Size(r)) * Size(heads_) + Size(head)) * cache_floats;
        const Cache cache{begin, begin + Size(slots) * Size(width)};
        const float* const key = kv + static_cast<std::ptrdiff_t>(r) * kv_stride + head * width;
        AttendStep(cache, t, query + static_cast<std::ptrdiff_t>(r) * query_stride + head * width, key, key + width_,
                   attended_.data() + static_cast<std::ptrdiff_t>(r) * width_ + head * width);
      }
    }
  };
  const int stride = matrix::Padded(outputs());
  for (int t = 0; t + 1 < out.length() && !stopped(); ++t) {
    const float* const p = position(t);
    for (int r = 0; r < rows; ++r) {
      const float* const e = embedding(out.row(r)[t]);
      const float* const m = embedding(input.row(r)[t]);
      for (int n = 0; n < width_; ++n) {
        values_[Size(r) * Size(width_) + Size(n)] = e[n] + p[n];
        memory_[Size(r) * Size(width_) + Size(n)] = m[n] + p[n];
      }
    }
    for (int l = 0; l < layers_; ++l) {
      if (stopped()) return;
      const Layer& layer = layer_[Size(l)];
      layer.qkv.Apply(values_.data(), width_, rows, qkv_.data(), 3 * width_);
      attend(l, 0, t, qkv_.data(), 3 * width_, qkv_.data() + width_, 3 * width_);
      layer.output.Apply(attended_.data(), width_, rows, added_.data(), width_);
      AddAndNormalise(added_.data(), width_, rows, width_, values_.data(), width_);

      // Queries of the cross attention stand in the first third of qkv_, keys and values in the rest.
      float* const kv = qkv_.data() + floats;
      layer.cross_query.Apply(values_.data(), width_, rows, qkv_.data(), width_);
      layer.cross_kv.Apply(memory_.data(), width_, rows, kv, 2 * width_);
      attend(l, 1, t, qkv_.data(), width_, kv, 2 * width_);
      layer.cross_output.Apply(attended_.data(), width_, rows, added_.data(), width_);
      AddAndNormalise(added_.data(), width_, rows, width_, values_.data(), width_);

      for (int first = 0; first < rows; first += kChunk) {
        const int lines = std::min(kChunk, rows - first);
        float* const x = values_.data() + static_cast<std::ptrdiff_t>(first) * width_;
        layer.first.Apply(x, width_, lines, inner_.data(), feed_forward_);
        matrix::Relu(inner_.data(), Size(lines) * Size(feed_forward_));
        layer.second.Apply(inner_.data(), feed_forward_, lines, added_.data(), width_);
        AddAndNormalise(added_.data(), width_, lines, width_, x, width_);
      }
    }
    if (t + 1 < start) continue;
    for (int first = 0; first < rows; first += kChunk) {
      const int lines = std::min(kChunk, rows - first);
      head_.Apply(values_.data() + static_cast<std::ptrdiff_t>(first) * width_, width_, lines, logits_.data(), stride);
      for (int i = 0; i < lines; ++i) {
        float* const at = logits_.data() + static_cast<std::ptrdiff_t>(i) * stride;
        if (logits != nullptr) logits = std::copy_n(at, outputs(), logits);
        out.row(first + i)[t + 1] = matrix::Choose(at, context_.alphabet, temperature_, rngs_[Size(first + i)]);
      }
    }
  }
}

// Attention of one head of one row at step t: stores the key and value, and writes what the query sees to `out`.
void TransformerProgram::AttendStep(Cache cache, int t, const float* query, const float* key, const float* value,
                                    float* out) {
  const int width = head_width();
  const int window = std::min(knobs_.window, context_.length);
  const int slots = matrix::Padded(window);
  StoreKey(cache, t % window, slots, key, value);
  const int keys = std::min(t + 1, window);
  matrix::Multiply(query, width, 1, width, cache.keys, static_cast<std::ptrdiff_t>(width) * matrix::kPanel, keys,
                   nullptr, scores_.data(), slots);
  const float inverse =
      AttentionWeights(scores_.data(), keys, matrix::Padded(keys), 1.0F / std::sqrt(static_cast<float>(width)));
  matrix::Multiply(scores_.data(), slots, 1, keys, cache.values, static_cast<std::ptrdiff_t>(slots) * matrix::kPanel,
                   width, nullptr, gathered_.data(), matrix::Padded(width));
  for (int c = 0; c < width; ++c) out[c] = gathered_[Size(c)] * inverse;
}

std::string TransformerProgram::Describe() const {
  return absl::StrCat("mode=", knobs_.sequential ? "SEQUENTIAL" : "PARALLEL", " width=", width_, " layers=", layers_,
                      " heads=", heads_, " feed_forward=", feed_forward_, " embedding_scale=", embedding_scale_,
                      " position_scale=", position_scale_, " weight_factor=", weight_factor_,
                      " head_scale=", head_scale_, " head_bias_scale=", head_bias_scale_, " temperature=", temperature_,
                      knobs_.sequential ? absl::StrCat(" window=", knobs_.window, " prompt_length=", prompt_length_)
                                        : absl::StrCat(" mask=", has_mask()));
}

namespace {

class TransformerFamily final : public Family {
 public:
  TransformerFamily(TransformerKnobs knobs, const FamilyContext& context)
      : knobs_(std::move(knobs)), context_(context), largest_(LargestSizes(knobs_, context)) {}

  bool reads_input() const override { return true; }

  double flops_per_token() const override {
    const double papers = knobs_.layers.Expect([](int layers) { return layers == 0 ? 1 : 0; });
    return knobs_.width.Expect([&](int drawn) {
      const int width = matrix::Padded(drawn);
      return Flops(width, knobs_.layers.mean() + papers * PaperLayers(width), knobs_.feed_forward.mean());
    });
  }

  double most_seconds(int rows) const override {
    const double width = largest_.width;
    const double weights = largest_.layers * Matrices(knobs_.feed_forward.high()) * width * width +
                           (2.0 * context_.alphabet + 1 + context_.length) * width;
    const double run = knobs_.sequential ? context_.length * StepSeconds(rows) : rows * RowSeconds();
    return run + cost::kWeight * weights;
  }

  double program_bytes(int rows) const override {
    const double width = largest_.width;
    const double inner = largest_.feed_forward;
    const auto linear = matrix::Linear::MaxFloats;
    double layer = linear(width, 3 * width) + linear(width, width) + linear(width, inner) + linear(inner, width);
    if (knobs_.sequential) layer += 2 * linear(width, width) + linear(width, 2 * width);
    const BufferSizes buffers = LargestBuffers(largest_, rows);
    return 4.0 * ((context_.alphabet + context_.length) * width + largest_.layers * layer +
                  linear(width, context_.alphabet + 1.0) + 7.0 * static_cast<double>(buffers.lines) * width +
                  kChunk * (inner + context_.alphabet + matrix::kPanel) + static_cast<double>(buffers.cache) +
                  static_cast<double>(buffers.scores) + kQueries * width) +
           16.0 * rows;
  }

  std::unique_ptr<Program> NewProgram(int max_rows) const override {
    return std::make_unique<TransformerProgram>(knobs_, context_, largest_, max_rows);
  }

 private:
  // Weights of a layer, as a multiple of width x width.
  double Matrices(double feed_forward) const { return (knobs_.sequential ? 8 : 4) + 2 * feed_forward; }

  // The most that so many lines take where a layer does not attend: the feed-forward layer, and `single` products of
  // width x width.
  double LineSeconds(double lines, double single) const {
    const double width = largest_.width;
    const double inner = largest_.feed_forward;
    const double norms = knobs_.sequential ? 3 : 2;
    return single * matrix::MultiplySeconds(lines, width, width) + matrix::MultiplySeconds(lines, width, inner) +
           matrix::ActivationSeconds(lines, inner / 4) + matrix::MultiplySeconds(lines, inner, width) +
           norms * (lines * cost::kCall + matrix::ActivationSeconds(lines, width));
  }

  // Of all heads: so many queries that see so many keys each, at most. The values of a head are padded to whole panels.
  double AttendSeconds(double queries, double keys) const {
    const double heads = std::min(largest_.heads, largest_.width);
    const double width = std::ceil(largest_.width / heads);
    return heads * (matrix::MultiplySeconds(queries, width, keys) + matrix::MultiplySeconds(queries, keys, width) +
                    queries * (4 * cost::kSymbol + cost::kValue * keys) + cost::kCall);
  }

  double HeadSeconds(double lines) const {
    return matrix::MultiplySeconds(lines, largest_.width, context_.alphabet + 1.0) +
           matrix::ChooseSeconds(lines, context_.alphabet);
  }

  // PARALLEL: of a row.
  double RowSeconds() const {
    const double length = context_.length;
    const double queries = std::min<double>(kQueries, length);  // together; they see half of the row on an average
    const double layer =
        LineSeconds(length, 4) + std::ceil(length / queries) * AttendSeconds(queries, (length + queries) / 2);
    return largest_.layers * layer + HeadSeconds(length);
  }

  // SEQUENTIAL: of a step.
  double StepSeconds(double rows) const {
    const double window = largest_.window;
    const double keys = window - window * window / (2.0 * context_.length);  // while it fills up they are fewer
    return largest_.layers * (LineSeconds(rows, 8) + 2 * rows * AttendSeconds(1, keys)) + HeadSeconds(rows);
  }

  double Flops(double width, double layers, double feed_forward) const {
    const double seen = knobs_.sequential ? 2.0 * largest_.window : context_.length / 2.0;
    return layers * (2 * Matrices(feed_forward) * width * width + 4 * seen * width) +
           2 * width * (context_.alphabet + 1.0);
  }

  TransformerKnobs knobs_;
  FamilyContext context_;
  TransformerSizes largest_;
};

void Resolve(v1::Family& family) {
  v1::Transformer& config = *family.mutable_transformer();
  if (config.mode() == v1::Transformer::MODE_UNSPECIFIED) config.set_mode(v1::Transformer::PARALLEL);
  DefaultFixed(config.mutable_width(), 64);
  DefaultFixed(config.mutable_layers(), 2);
  DefaultFixed(config.mutable_heads(), 4);
  DefaultFixed(config.mutable_feed_forward(), 4);
  DefaultFixed(config.mutable_embedding_scale(), 1.0);
  DefaultFixed(config.mutable_position_scale(), 1.0);
  DefaultFixed(config.mutable_weight_factor(), 10.0);
  DefaultFixed(config.mutable_head_scale(), 1.4);
  DefaultFixed(config.mutable_head_bias_scale(), 1.0);
  DefaultFixed(config.mutable_temperature(), 0.5);
  if (!config.has_mask()) config.set_mask(true);
  if (!config.has_window()) config.set_window(64);
  DefaultFixed(config.mutable_prompt_length(), 8);
}

absl::StatusOr<std::unique_ptr<Family>> Make(const v1::Family& family, const FamilyContext& context,
                                             const std::string& path) {
  const v1::Transformer& config = family.transformer();
  auto width = IntegerKnob::Make(config.width(), path + ".width", 16, kMaxWidth);
  if (!width.ok()) return width.status();
  auto layers = IntegerKnob::Make(config.layers(), path + ".layers", 0, kMaxLayers);
  if (!layers.ok()) return layers.status();
  auto heads = IntegerKnob::Make(config.heads(), path + ".heads", 1, kMaxHeads);
  if (!heads.ok()) return heads.status();
  auto feed_forward = IntegerKnob::Make(config.feed_forward(), path + ".feed_forward", 1, kMaxFeedForward);
  if (!feed_forward.ok()) return feed_forward.status();
  auto embedding_scale = RealKnob::Make(config.embedding_scale(), path + ".embedding_scale", 0, 1e6);
  if (!embedding_scale.ok()) return embedding_scale.status();
  auto position_scale = RealKnob::Make(config.position_scale(), path + ".position_scale", 0, 1e6);
  if (!position_scale.ok()) return position_scale.status();
  auto weight_factor = RealKnob::Make(config.weight_factor(), path + ".weight_factor", 0, 1e4);
  if (!weight_factor.ok()) return weight_factor.status();
  auto head_scale = RealKnob::Make(config.head_scale(), path + ".head_scale", 0, 1e6);
  if (!head_scale.ok()) return head_scale.status();
  auto head_bias_scale = RealKnob::Make(config.head_bias_scale(), path + ".head_bias_scale", 0, 1e6);
  if (!head_bias_scale.ok()) return head_bias_scale.status();
  auto temperature = RealKnob::Make(config.temperature(), path + ".temperature", 0, 1e6);
  if (!temperature.ok()) return temperature.status();
  auto prompt_length = IntegerKnob::Make(config.prompt_length(), path + ".prompt_length", 0, context.length);
  if (!prompt_length.ok()) return prompt_length.status();
  if (absl::Status s = CheckRange(path + ".window", config.window(), 1, kMaxWindow); !s.ok()) return s;
  return std::make_unique<TransformerFamily>(
      TransformerKnobs{config.mode() == v1::Transformer::SEQUENTIAL, config.mask(), static_cast<int>(config.window()),
                       *std::move(width), *std::move(layers), *std::move(heads), *std::move(feed_forward),
                       *std::move(embedding_scale), *std::move(position_scale), *std::move(weight_factor),
                       *std::move(head_scale), *std::move(head_bias_scale), *std::move(temperature),
                       *std::move(prompt_length)},
      context);
}

}  // namespace

const FamilyEntry kTransformerEntry = {v1::Family::kTransformer, "transformer",
                                       "random causal transformer that rewrites a row, or writes one token by token",
                                       Resolve, Make};

}  // namespace iterand
