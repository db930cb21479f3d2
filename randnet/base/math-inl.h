// Vector forms of randnet/base/math.h: the same operations on every lane, hence the same bits.
//
// Include this only from a file that Highway compiles per target (see randnet/base/simd.h), after hwy/highway.h.
#if defined(ITERAND_RANDNET_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ITERAND_RANDNET_MATH_INL_H_
#undef ITERAND_RANDNET_MATH_INL_H_
#else
#define ITERAND_RANDNET_MATH_INL_H_
#endif

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

// math::Tanh.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const V magnitude = hn::Abs(x);
  const V one = hn::Set(d, 1.0F);
  const V square = hn::Mul(x, x);
  const V small = hn::MulAdd(hn::Mul(x, square), Horner(d, square, coefficient::kTanh), x);
  const V limit = hn::Set(d, coefficient::kTanhOne);
  const V clamped = hn::IfThenElse(hn::Gt(magnitude, limit), limit, magnitude);
  const V e = Exp(d, hn::Add(clamped, clamped));
  const V large = hn::CopySign(hn::Sub(one, hn::Div(hn::Set(d, 2.0F), hn::Add(e, one))), x);
  return hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, coefficient::kTanhSmall)), small, large);
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

// math::GateExp of several vectors in step, x[i] with scale kScale[i]: their chains of dependent operations run side by
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
