#include "randnet/networks/mlp_window_kernels.h"

#include "randnet/base/matrix.h"
#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/networks/mlp_window_kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = HWY_CAPPED(float, matrix::kPanel);
using V = hn::Vec<D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));

// kVectors vectors of units from `unit` on, of one row.
template <int kVectors>
HWY_INLINE void Sum(const MlpWindowFirst& first, const std::int32_t* HWY_RESTRICT lines, int count, int unit,
                    float* HWY_RESTRICT state) {
  const D d;
  V sum[kVectors];
  HWY_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) sum[v] = hn::LoadU(d, first.bias + unit + v * kLanes);
  for (int i = 0; i < count; ++i) {
    const float* const from = first.weights + static_cast<std::ptrdiff_t>(lines[i]) * first.hidden + unit;
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) sum[v] = hn::Add(sum[v], hn::LoadU(d, from + v * kLanes));
  }
  HWY_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) hn::Store(sum[v], d, state + unit + v * kLanes);
}

}  // namespace

void MlpWindowLayer(const MlpWindowFirst& first, const std::int32_t* lines, std::ptrdiff_t line_stride, int count,
                    int rows, float* states) {
  constexpr int kPanelVectors = matrix::kPanel / kLanes;
  const int stride = matrix::Padded(first.hidden);
  float* state = states;
  for (int r = 0; r < rows; ++r, lines += line_stride, state += stride) {
    int unit = 0;
    for (; unit + 2 * matrix::kPanel <= stride; unit += 2 * matrix::kPanel) {
      Sum<2 * kPanelVectors>(first, lines, count, unit, state);
    }
    if (unit < stride) Sum<kPanelVectors>(first, lines, count, unit, state);
  }
  vmath::TanhArray(states, static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride));
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(MlpWindowLayer);

void MlpWindowLayer(const MlpWindowFirst& first, const std::int32_t* lines, std::ptrdiff_t line_stride, int count,
                    int rows, float* states) {
  HWY_DYNAMIC_DISPATCH(MlpWindowLayer)(first, lines, line_stride, count, rows, states);
}

}  // namespace iterand
#endif  // HWY_ONCE
