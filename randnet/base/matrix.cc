#include "randnet/base/matrix.h"

#include <algorithm>
#include <limits>

#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/base/matrix.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"
#include "randnet/base/panels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::matrix::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace panels = ::iterand::HWY_NAMESPACE::panels;
namespace vmath = ::iterand::HWY_NAMESPACE::vmath;
using panels::D;
using panels::kLanes;

constexpr int kChunkRows = 24;  // rows whose inputs stay in the first-level cache while panels pass

void Multiply(const float* in, std::ptrdiff_t in_stride, int rows, int inputs, const float* weights,
              std::ptrdiff_t panel_stride, int outputs, const float* bias, float* out, std::ptrdiff_t out_stride) {
  for (int first = 0; first < rows; first += kChunkRows) {
    const panels::Product product = {.rows = std::min(kChunkRows, rows - first),
                                     .in = in + first * in_stride,
                                     .in_stride = in_stride,
                                     .inputs = inputs,
                                     .weights = weights,
                                     .panel_stride = panel_stride,
                                     .panels = Padded(outputs) / kPanel,
                                     .out = out + first * out_stride,
                                     .out_stride = out_stride};
    if (bias == nullptr) {
      panels::Multiply(product, panels::FromZero{});
    } else {
      panels::Multiply(product, panels::FromBias{bias});
    }
  }
}

void Tanh(float* values, std::size_t count) { vmath::TanhArray(values, count); }

void Relu(float* values, std::size_t count) {
  const D d;
  for (std::size_t i = 0; i < count; i += kLanes) {
    hn::Store(hn::Max(hn::Load(d, values + i), hn::Zero(d)), d, values + i);
  }
}

void ChooseEach(float* logits, std::ptrdiff_t stride, int rows, int symbols, float temperature, Rng* rngs,
                Symbol* chosen) {
  const int padded = Padded(symbols);
  for (int r = 0; r < rows; ++r) {
    std::fill(logits + r * stride + symbols, logits + r * stride + padded, std::numeric_limits<float>::lowest());
  }
  panels::Choose(logits, stride, rows, symbols, padded, temperature, rngs, chosen);
}

}  // namespace iterand::matrix::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand::matrix {

HWY_EXPORT(Multiply);
HWY_EXPORT(Tanh);
HWY_EXPORT(Relu);
HWY_EXPORT(ChooseEach);

void Multiply(const float* in, std::ptrdiff_t in_stride, int rows, int inputs, const float* weights,
              std::ptrdiff_t panel_stride, int outputs, const float* bias, float* out, std::ptrdiff_t out_stride) {
  HWY_DYNAMIC_DISPATCH(Multiply)(in, in_stride, rows, inputs, weights, panel_stride, outputs, bias, out, out_stride);
}

void Tanh(float* values, std::size_t count) { HWY_DYNAMIC_DISPATCH(Tanh)(values, count); }

void Relu(float* values, std::size_t count) { HWY_DYNAMIC_DISPATCH(Relu)(values, count); }

Symbol Choose(float* logits, int symbols, float temperature, Rng& rng) {
  Symbol chosen;
  ChooseEach(logits, Padded(symbols), 1, symbols, temperature, &rng, &chosen);
  return chosen;
}

void ChooseEach(float* logits, std::ptrdiff_t stride, int rows, int symbols, float temperature, Rng* rngs,
                Symbol* chosen) {
  HWY_DYNAMIC_DISPATCH(ChooseEach)(logits, stride, rows, symbols, temperature, rngs, chosen);
}

void Linear::Reserve(int inputs, int outputs) {
  const std::size_t panel = static_cast<std::size_t>(inputs) * kPanel;
  weights_.reserve(panel * static_cast<std::size_t>(Padded(outputs) / kPanel));
  bias_.reserve(static_cast<std::size_t>(Padded(outputs)));
  draws_.reserve(panel);
}

void Linear::Draw(Rng& rng, int inputs, int outputs, float scale, float bias_scale) {
  inputs_ = inputs;
  outputs_ = outputs;
  const int padded = Padded(outputs);
  const std::size_t panel = static_cast<std::size_t>(inputs) * kPanel;
  bias_.assign(static_cast<std::size_t>(padded), 0.0F);
  if (bias_scale != 0.0F) rng.FillNormal(bias_scale, {bias_.data(), static_cast<std::size_t>(outputs)});
  weights_.resize(panel * static_cast<std::size_t>(padded / kPanel));
  float* to = weights_.data();
  for (int first = 0; first < outputs; first += kPanel, to += panel) {
    const auto units = static_cast<std::size_t>(std::min(kPanel, outputs - first));
    if (units == kPanel) {
      rng.FillNormal(scale, {to, panel});
      continue;
    }
    draws_.resize(static_cast<std::size_t>(inputs) * units);
    rng.FillNormal(scale, draws_);
    std::fill_n(to, panel, 0.0F);
    for (std::size_t k = 0; k < static_cast<std::size_t>(inputs); ++k) {
      std::copy_n(draws_.data() + k * units, units, to + k * kPanel);
    }
  }
}

}  // namespace iterand::matrix
#endif  // HWY_ONCE
