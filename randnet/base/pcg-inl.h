// Vector code for PCG's 64-bit states. Included once per target, like math-inl.h.
#if defined(ITERAND_RANDNET_PCG_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ITERAND_RANDNET_PCG_INL_H_
#undef ITERAND_RANDNET_PCG_INL_H_
#else
#define ITERAND_RANDNET_PCG_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Low 64 bits of a * b for a scalar b.
template <class D64, class V64>
HWY_INLINE V64 MulLow(D64 d64, V64 a, std::uint64_t b) {
#if HWY_TARGET == HWY_AVX3
  return hn::Mul(a, hn::Set(d64, b));  // an instruction there
#else
  const hn::Repartition<std::uint32_t, D64> d32;
  const auto a_low = hn::BitCast(d32, a);
  const auto a_high = hn::BitCast(d32, hn::ShiftRight<32>(a));
  const auto b_low = hn::BitCast(d32, hn::Set(d64, b & 0xFFFFFFFFU));
  const auto b_high = hn::BitCast(d32, hn::Set(d64, b >> 32));
  const V64 cross = hn::Add(hn::MulEven(a_low, b_high), hn::MulEven(a_high, b_low));
  return hn::Add(hn::MulEven(a_low, b_low), hn::ShiftLeft<32>(cross));
#endif
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
