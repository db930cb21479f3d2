// PARALLEL: one pass over the input row gives every token of the output.
#include <algorithm>
#include <cmath>

#include "randnet/networks/transformer.h"
#include "randnet/networks/transformer_kernels.h"

namespace iterand {
namespace {

// Lines that pass the projections of the attention together, which takes a few milliseconds at most.
constexpr int ProjectedLines(int width) { return width <= 512 ? 512 : TransformerProgram::kChunk; }

}  // namespace

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
    FeedForward(layer, length);
  }
  ForEachLogits(length, logits, [&](int t, float* at) {
    const bool keep = has_mask() && !(at[context_.alphabet] > 0.0F);
    const Symbol symbol = matrix::Choose(at, context_.alphabet, temperature_, rng);
    out[t] = keep ? z[t] : symbol;
  });
}

void TransformerProgram::Attend(int length) {
  const int width = head_width();
  const int padded_width = matrix::Padded(width);
  const int slots = matrix::Padded(length);
  const float scale = 1.0F / std::sqrt(static_cast<float>(width));
  // A panel has zeros where it has no key or no channel.
  caches_.assign(CacheFloats(slots), 0.0F);
  scores_.resize(kQueries * Size(slots));
  gathered_.resize(kQueries * Size(padded_width));
  const Cache cache = CacheAt(0, slots);
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

}  // namespace iterand
