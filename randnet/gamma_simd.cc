#include "randnet/gamma_simd.h"

#include "randnet/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/gamma_simd.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Uniform over (0, 1], as Rng::UniformPositive.
template <class D, class V32>
HWY_INLINE hn::Vec<D> PositiveUniform(D d, V32 words) {
  const hn::RebindToSigned<D> di;
  const hn::RebindToUnsigned<D> du;
  const auto steps = hn::Add(hn::ShiftRight<8>(words), hn::Set(du, 1U));
  return hn::Mul(hn::ConvertTo(d, hn::BitCast(di, steps)), hn::Set(d, 0x1.0p-24F));
}

void ProposeGammas(float d_value, float c_value, const std::uint32_t* HWY_RESTRICT normal_words,
                   const std::uint32_t* HWY_RESTRICT uniform_words, float* HWY_RESTRICT log_v,
                   std::uint32_t* HWY_RESTRICT accepted, std::size_t count) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::RebindToUnsigned<decltype(d)> du;
  const auto one = hn::Set(d, 1.0F);
  for (std::size_t i = 0; i < count; i += hn::Lanes(d)) {
    const auto words = hn::LoadU(du, normal_words + i);
    const auto odd = hn::Sub(hn::BitCast(di, hn::Or(hn::ShiftLeft<1>(hn::ShiftRight<8>(words)), hn::Set(du, 1U))),
                             hn::Set(di, 1 << 24));
    const auto x = vmath::NormalFromSymmetric(d, hn::Mul(hn::ConvertTo(d, odd), hn::Set(d, 0x1.0p-24F)));
    const auto root = hn::MulAdd(hn::Set(d, c_value), x, one);
    const auto log_u = vmath::Log(d, PositiveUniform(d, hn::LoadU(du, uniform_words + i)));
    const auto v = hn::Mul(hn::Mul(root, root), root);
    const auto proposal = vmath::Log(d, v);
    const auto tail = hn::Mul(hn::Set(d, d_value), hn::Add(hn::Sub(one, v), proposal));
    const auto bound = hn::MulAdd(hn::Mul(hn::Set(d, 0.5F), x), x, tail);
    const auto accept = hn::And(hn::Lt(log_u, bound), hn::Gt(root, hn::Zero(d)));
    hn::StoreU(proposal, d, log_v + i);
    hn::StoreU(hn::IfThenElseZero(hn::RebindMask(du, accept), hn::Set(du, 1U)), du, accepted + i);
  }
}

void AddBoost(float shape, const std::uint32_t* HWY_RESTRICT words, float* HWY_RESTRICT values, std::size_t count) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const auto divisor = hn::Set(d, shape);
  for (std::size_t i = 0; i < count; i += hn::Lanes(d)) {
    const auto log_u = vmath::Log(d, PositiveUniform(d, hn::LoadU(du, words + i)));
    hn::StoreU(hn::Add(hn::LoadU(d, values + i), hn::Div(log_u, divisor)), d, values + i);
  }
}

void ExpBelow(float largest, float* HWY_RESTRICT values, std::size_t count) {
  const hn::ScalableTag<float> d;
  const auto shift = hn::Set(d, largest);
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(vmath::Exp(d, hn::Sub(hn::LoadU(d, values + i), shift)), d, values + i);
  }
  if (i == count) return;
  const auto rest = hn::FirstN(d, count - i);
  const auto last = hn::MaskedLoad(rest, d, values + i);
  hn::BlendedStore(vmath::Exp(d, hn::Sub(last, shift)), rest, d, values + i);
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(ProposeGammas);
HWY_EXPORT(AddBoost);
HWY_EXPORT(ExpBelow);

namespace internal {

void ProposeGammas(float d, float c, const std::uint32_t* normal_words, const std::uint32_t* uniform_words,
                   float* log_v, std::uint32_t* accepted, std::size_t count) {
  HWY_DYNAMIC_DISPATCH(ProposeGammas)(d, c, normal_words, uniform_words, log_v, accepted, count);
}

void AddBoost(float shape, const std::uint32_t* words, float* values, std::size_t count) {
  HWY_DYNAMIC_DISPATCH(AddBoost)(shape, words, values, count);
}

void ExpBelow(float largest, float* values, std::size_t count) {
  HWY_DYNAMIC_DISPATCH(ExpBelow)(largest, values, count);
}

}  // namespace internal
}  // namespace iterand
#endif  // HWY_ONCE
