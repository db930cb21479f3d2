// Vector forms of randnet/base/math.h: the same operations on every lane, hence the same bits.
//
// Include this only from a file that Highway compiles per target (see randnet/base/simd.h), after hwy/highway.h.
#if defined(ITERAND_RANDNET_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ITERAND_RANDNET_MATH_INL_H_
#undef ITERAND_RANDNET_MATH_INL_H_
#else
#define ITERAND_RANDNET_MATH_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"
#include "randnet/base/math.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE::vmath {
namespace hn = hwy::HWY_NAMESPACE;
namespace coefficient = ::iterand::math::internal;

// p = p * x + c for each further coefficient, highest order first: c[last], ..., c[0].
template <int kCount, class D, class V = hn::Vec<D>>
HWY_INLINE V Horner(D d, V x, const float (&c)[kCount]) {
  V p = hn::Set(d, c[kCount - 1]);
  for (int i = kCount - 2; i >= 0; --i) p = hn::MulAdd(p, x, hn::Set(d, c[i]));
  return p;
}

// math::Exp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V low = hn::Set(d, coefficient::kExpLow);
  const V high = hn::Set(d, coefficient::kExpHigh);
  x = hn::IfThenElse(hn::Lt(x, low), low, x);  // not Max, which need not keep NaN
  x = hn::IfThenElse(hn::Gt(x, high), high, x);
  const V round = hn::Set(d, coefficient::kRound);
  const V n = hn::Sub(hn::MulAdd(x, hn::Set(d, coefficient::kLog2E), round), round);
  const V r = hn::MulAdd(n, hn::Set(d, -coefficient::kLn2Low), hn::MulAdd(n, hn::Set(d, -coefficient::kLn2High), x));
  const V p = Horner(d, r, coefficient::kExp);
  const V y = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0F));
  const auto k = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(k);
  const auto bias = hn::Set(di, 127);
  const V first = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const V second = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(k, half), bias)));
  return hn::Mul(hn::Mul(y, first), second);
}

// math::Log of normal positive finite numbers.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LogNormal(D d, V x) {
  const hn::RebindToSigned<D> di;
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::Add(hn::BitCast(du, x), hn::Set(du, 0x3F800000U - coefficient::kSqrtHalfBits));
  const V e = hn::ConvertTo(d, hn::Sub(hn::BitCast(di, hn::ShiftRight<23>(bits)), hn::Set(di, 127)));
  const V m = hn::BitCast(d, hn::Add(hn::And(bits, hn::Set(du, 0x007FFFFFU)), hn::Set(du, coefficient::kSqrtHalfBits)));
  const V f = hn::Sub(m, hn::Set(d, 1.0F));
  const V p = Horner(d, f, coefficient::kLog);
  const V square = hn::Mul(f, f);
  V y = hn::MulAdd(e, hn::Set(d, coefficient::kLn2Low), hn::Mul(hn::Mul(f, square), p));
  y = hn::MulAdd(hn::Set(d, -0.5F), square, y);
  return hn::MulAdd(e, hn::Set(d, coefficient::kLn2High), hn::Add(f, y));
}

// math::Tanh of several vectors in step: like GateExpEach below, so that their chains run side by side.
template <int kCount, class D, class V = hn::Vec<D>>
HWY_INLINE void TanhEach(D d, V (&x)[kCount]) {
  const hn::RebindToUnsigned<D> du;
  const V one = hn::Set(d, 1.0F);
  const V limit = hn::Set(d, coefficient::kTanhOne);
  const V round = hn::Set(d, coefficient::kRound);
  V small[kCount];
  V square[kCount];
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) {
    square[i] = hn::Mul(x[i], x[i]);
    small[i] = hn::Set(d, coefficient::kTanh[4]);
  }
  HWY_UNROLL(8)
  for (int j = 3; j >= 0; --j) {
    HWY_UNROLL(8)
    for (int i = 0; i < kCount; ++i) small[i] = hn::MulAdd(small[i], square[i], hn::Set(d, coefficient::kTanh[j]));
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) small[i] = hn::MulAdd(hn::Mul(x[i], square[i]), small[i], x[i]);
  // Exp without its clamps, since the argument is in [0, 20]. There one product with 2^n is exact, and the low bits of
  // `shifted` hold n. Adding them to the exponent would be cheaper, but makes numbers of some NaNs. Since the product
  // is exact, the sum with 1 is rounded once either way.
  V shifted[kCount];
  V r[kCount];
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) {
    const V magnitude = hn::Abs(x[i]);
    const V clamped = hn::IfThenElse(hn::Gt(magnitude, limit), limit, magnitude);  // keeps NaN
    const V twice = hn::Add(clamped, clamped);
    shifted[i] = hn::MulAdd(twice, hn::Set(d, coefficient::kLog2E), round);
    const V n = hn::Sub(shifted[i], round);
    r[i] = hn::MulAdd(n, hn::Set(d, -coefficient::kLn2High), twice);
    r[i] = hn::MulAdd(n, hn::Set(d, -coefficient::kLn2Low), r[i]);
  }
  V p[kCount];
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) p[i] = hn::Set(d, coefficient::kExp[4]);
  HWY_UNROLL(8)
  for (int j = 3; j >= 0; --j) {
    HWY_UNROLL(8)
    for (int i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], r[i], hn::Set(d, coefficient::kExp[j]));
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) {
    const V y = hn::Add(hn::MulAdd(hn::Mul(r[i], r[i]), p[i], r[i]), one);
    const auto power = hn::Add(hn::ShiftLeft<23>(hn::BitCast(du, shifted[i])), hn::BitCast(du, one));
    p[i] = hn::Div(hn::Set(d, 2.0F), hn::MulAdd(y, hn::BitCast(d, power), one));
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) {
    const V large = hn::CopySignToAbs(hn::Sub(one, p[i]), x[i]);
    x[i] = hn::IfThenElse(hn::Lt(hn::Abs(x[i]), hn::Set(d, coefficient::kTanhSmall)), small[i], large);
  }
}

// math::Tanh.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  V one[1] = {x};
  TanhEach(d, one);
  return one[0];
}

// math::Tanh of `count` values, a multiple of 16, aligned.
HWY_INLINE void TanhArray(float* HWY_RESTRICT values, std::size_t count) {
  const HWY_CAPPED(float, 16) d;
  using V = hn::Vec<decltype(d)>;
  constexpr std::size_t kTogether = 4;
  constexpr std::size_t kLanes = hn::MaxLanes(d);
  std::size_t i = 0;
  for (; i + kTogether * kLanes <= count; i += kTogether * kLanes) {
    V x[kTogether];
    HWY_UNROLL(4)
    for (std::size_t v = 0; v < kTogether; ++v) x[v] = hn::Load(d, values + i + v * kLanes);
    TanhEach(d, x);
    HWY_UNROLL(4)
    for (std::size_t v = 0; v < kTogether; ++v) hn::Store(x[v], d, values + i + v * kLanes);
  }
  for (; i < count; i += kLanes) hn::Store(Tanh(d, hn::Load(d, values + i)), d, values + i);
}

// math::NormalFromSymmetric for |x| < 1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V NormalFromSymmetric(D d, V x) {
  const V w = hn::Neg(LogNormal(d, hn::NegMulAdd(x, x, hn::Set(d, 1.0F))));
  const auto polynomial = [d](V v, const float(&c)[9]) HWY_ATTR {
    V p = hn::Set(d, c[0]);
    for (int i = 1; i < 9; ++i) p = hn::MulAdd(p, v, hn::Set(d, c[i]));
    return p;
  };
  V p = polynomial(hn::Sub(w, hn::Set(d, 2.5F)), coefficient::kErfInvCentre);
  const auto centre = hn::Lt(w, hn::Set(d, 5.0F));
  if (HWY_UNLIKELY(!hn::AllTrue(d, centre))) {
    // The square root of a negative w, rounding's -0 aside, cannot occur: w is 0 or more.
    const V tail = polynomial(hn::Sub(hn::Sqrt(w), hn::Set(d, 3.0F)), coefficient::kErfInvTail);
    p = hn::IfThenElse(centre, p, tail);
  }
  return hn::Mul(p, hn::Mul(x, hn::Set(d, coefficient::kSqrt2)));
}

// math::GateExp of several vectors in step, x[i] with scale kScale[i]. Their chains of dependent operations run side by
// side even where the processor looks ahead only a little.
template <int... kScale, class D, class V = hn::Vec<D>>
HWY_INLINE void GateExpEach(D d, V (&x)[sizeof...(kScale)]) {
  constexpr int kCount = sizeof...(kScale);
  constexpr int kScales[] = {kScale...};
  const hn::RebindToUnsigned<D> du;
  const V round = hn::Set(d, coefficient::kRound);
  V shifted[kCount];
  V p[kCount];
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) {
    const auto magnitude = static_cast<float>(kScales[i] < 0 ? -kScales[i] : kScales[i]);
    x[i] = hn::Min(x[i], hn::Set(d, coefficient::kGateLimit / magnitude));
    x[i] = hn::Max(x[i], hn::Set(d, -(coefficient::kGateLimit / magnitude)));
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) {
    const V factor = hn::Set(d, static_cast<float>(kScales[i]) * coefficient::kLog2E);
    shifted[i] = hn::MulAdd(x[i], factor, round);
    x[i] = hn::MulSub(x[i], factor, hn::Sub(shifted[i], round));
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i)
    p[i] = hn::MulAdd(hn::Set(d, coefficient::kExp2[4]), x[i], hn::Set(d, coefficient::kExp2[3]));
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, coefficient::kExp2[2]));
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, coefficient::kExp2[1]));
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, coefficient::kExp2[0]));
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, 1.0F));
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) {
    // The low bits of `shifted` hold the integer; moved up, they are added to the exponent.
    x[i] = hn::BitCast(d, hn::Add(hn::BitCast(du, p[i]), hn::ShiftLeft<23>(hn::BitCast(du, shifted[i]))));
  }
}

// math::GateExp.
template <int kScale, class D, class V = hn::Vec<D>>
HWY_INLINE V GateExp(D d, V x) {
  V one[1] = {x};
  GateExpEach<kScale>(d, one);
  return one[0];
}

}  // namespace iterand::HWY_NAMESPACE::vmath
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
