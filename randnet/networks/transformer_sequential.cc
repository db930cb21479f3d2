// SEQUENTIAL: all rows are written side by side, token by token.
#include <algorithm>
#include <cmath>

#include "randnet/networks/transformer.h"
#include "randnet/networks/transformer_kernels.h"

namespace iterand {

void TransformerProgram::RunSequential(BlockView input, int start, const RowRng& rng, MutableBlockView out,
                                       float* logits) {
  const int rows = out.rows();
  const int slots = matrix::Padded(std::min(knobs_.window, context_.length));
  const std::size_t floats = Size(rows) * Size(width_);
  for (matrix::Floats* buffer : {&values_, &memory_, &attended_, &added_}) buffer->resize(floats);
  qkv_.resize(3 * floats);
  scores_.resize(Size(AttendTogether(width_ / matrix::kPanel)) * Size(heads_) * Size(slots));
  caches_.clear();
  if (!Resize(caches_, 4 * Size(layers_) * Size(rows) * Size(slots) * Size(width_))) return;
  rngs_.clear();
  for (int r = 0; r < rows; ++r) rngs_.push_back(rng.ForRow(r));
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
    if (!Step(t, rows)) return;
    if (t + 1 < start) continue;
    ForEachLogits(rows, logits, [&](int r, float* at) {
      out.row(r)[t + 1] = matrix::Choose(at, context_.alphabet, temperature_, rngs_[Size(r)]);
    });
  }
}

bool TransformerProgram::Step(int t, int rows) {
  // Queries of the cross attention are in the first third of qkv_, its keys and values in the rest.
  float* const qkv = qkv_.data();
  float* const kv = qkv + Size(rows) * Size(width_);
  for (int l = 0; l < layers_; ++l) {
    if (stopped()) return false;
    const Layer& layer = layer_[Size(l)];
    layer.qkv.Apply(values_.data(), width_, rows, qkv, 3 * width_);
    AttendRows(l, Attention::kSelf, t, rows, qkv, 3 * width_, qkv + width_, 3 * width_);
    layer.output.Apply(attended_.data(), width_, rows, added_.data(), width_);
    AddAndNormalise(added_.data(), width_, rows, width_, values_.data(), width_);

    layer.cross_query.Apply(values_.data(), width_, rows, qkv, width_);
    layer.cross_kv.Apply(memory_.data(), width_, rows, kv, 2 * width_);
    AttendRows(l, Attention::kCross, t, rows, qkv, width_, kv, 2 * width_);
    layer.cross_output.Apply(attended_.data(), width_, rows, added_.data(), width_);
    AddAndNormalise(added_.data(), width_, rows, width_, values_.data(), width_);

    FeedForward(layer, rows);
  }
  return true;
}

void TransformerProgram::AttendRows(int layer, Attention kind, int t, int rows, const float* query, int query_stride,
                                    const float* kv, int kv_stride) {
  const int window = std::min(knobs_.window, context_.length);
  const int slots = matrix::Padded(window);
  const std::size_t row_floats = 2 * Size(slots) * Size(width_);
  const std::size_t first_row = Size(2 * layer + (kind == Attention::kCross ? 1 : 0)) * Size(rows);
  AttendedRows attended = {.rows = 1,
                           .heads = heads_,
                           .width = head_width(),
                           .keys = std::min(t + 1, window),
                           .slots = slots,
                           .query = query,
                           .query_stride = query_stride,
                           .caches = caches_.data() + first_row * row_floats,
                           .out = attended_.data(),
                           .out_stride = width_};
  float* cache = caches_.data() + first_row * row_floats;
  for (int r = 0; r < rows; ++r, cache += row_floats) {
    StoreRow(cache, t % window, slots, kv + static_cast<std::ptrdiff_t>(r) * kv_stride);
  }
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_width()));
  const int together = AttendTogether(width_ / matrix::kPanel);
  for (int r = 0; r < rows && !stopped(); r += together) {
    attended.rows = std::min(together, rows - r);
    AttendStep(attended, scale, scores_.data());
    attended.query += static_cast<std::ptrdiff_t>(together) * query_stride;
    attended.caches += together * static_cast<std::ptrdiff_t>(row_floats);
    attended.out += static_cast<std::ptrdiff_t>(together) * width_;
  }
}

void TransformerProgram::StoreRow(float* cache, int slot, int slots, const float* kv) const {
  const int width = head_width();
  float* to =
      cache + static_cast<std::ptrdiff_t>(slot / matrix::kPanel) * width * matrix::kPanel + slot % matrix::kPanel;
  const float* from = kv;
  for (int head = 0; head < heads_; ++head, to += static_cast<std::ptrdiff_t>(slots) * width) {
    for (int c = 0; c < width; ++c) to[c * matrix::kPanel] = *from++;
  }
  float* values =
      cache + static_cast<std::ptrdiff_t>(slots) * width_ + static_cast<std::ptrdiff_t>(slot) * matrix::kPanel;
  for (int n = 0; n < width_; n += matrix::kPanel, values += static_cast<std::ptrdiff_t>(slots) * matrix::kPanel) {
    std::copy_n(from + n, matrix::kPanel, values);
  }
}

}  // namespace iterand
