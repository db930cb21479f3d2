#include "tests/randnet/base/vector_math.h"

#include <algorithm>

#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/randnet/base/vector_math.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class Function>
void Apply(std::span<const float> x, std::span<float> y, const Function& function) {
  const HWY_CAPPED(float, 16) d;
  const std::size_t lanes = hn::Lanes(d);
  HWY_ALIGN float in[16];
  HWY_ALIGN float out[16];
  for (std::size_t i = 0; i < x.size(); i += lanes) {
    const std::size_t count = std::min(lanes, x.size() - i);
    std::fill_n(in, lanes, 0.5F);
    std::copy_n(x.data() + i, count, in);
    hn::Store(function(d, hn::Load(d, in)), d, out);
    std::copy_n(out, count, y.data() + i);
  }
}

void ApplyAny(VectorFunction function, std::span<const float> x, std::span<float> y) {
  switch (function) {
    case VectorFunction::kExp:
      return Apply(x, y, [](auto d, auto v) HWY_ATTR { return vmath::Exp(d, v); });
    case VectorFunction::kLogNormal:
      return Apply(x, y, [](auto d, auto v) HWY_ATTR { return vmath::LogNormal(d, v); });
    case VectorFunction::kTanh:
      return Apply(x, y, [](auto d, auto v) HWY_ATTR { return vmath::Tanh(d, v); });
    case VectorFunction::kNormal:
      return Apply(x, y, [](auto d, auto v) HWY_ATTR { return vmath::NormalFromSymmetric(d, v); });
    case VectorFunction::kGate:
      return Apply(x, y, [](auto d, auto v) HWY_ATTR { return vmath::GateExp<1>(d, v); });
    case VectorFunction::kGateMinus:
      return Apply(x, y, [](auto d, auto v) HWY_ATTR { return vmath::GateExp<-1>(d, v); });
    case VectorFunction::kGateMinusTwo:
      return Apply(x, y, [](auto d, auto v) HWY_ATTR { return vmath::GateExp<-2>(d, v); });
  }
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(ApplyAny);

void ApplyVectorFunction(VectorFunction function, std::span<const float> x, std::span<float> y) {
  HWY_DYNAMIC_DISPATCH(ApplyAny)(function, x, y);
}

}  // namespace iterand
#endif  // HWY_ONCE
