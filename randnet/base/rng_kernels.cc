#include "randnet/base/rng_kernels.h"

#include <bit>

#include "randnet/base/pcg.h"
#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/base/rng_kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"
#include "randnet/base/pcg-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline std::uint64_t Bump(std::uint64_t state, std::uint64_t increment) { return state * kPcgMultiplier + increment; }

inline std::uint32_t Output(std::uint64_t state) {
  return std::rotr(static_cast<std::uint32_t>(((state >> 18) ^ state) >> 27), static_cast<int>(state >> 59));
}

// The states from which a vector of words is made, in two vectors: 64-bit lane j of `even` makes word 2j, of `odd` word
// 2j + 1. The rotation can leave its result in the upper half as well as in the lower, so the two interleave at no
// cost.
template <class V64>
struct StatePair {
  V64 even;
  V64 odd;
};

// Those of the words from word `first` on, counted from the state.
template <class D64, class V64 = hn::Vec<D64>>
HWY_INLINE StatePair<V64> StatesFrom(D64 d64, std::uint64_t state, std::uint64_t increment, std::size_t first) {
  HWY_ALIGN std::uint64_t even[hn::MaxLanes(D64())];
  HWY_ALIGN std::uint64_t odd[hn::MaxLanes(D64())];
  for (std::size_t j = 0; j < hn::MaxLanes(d64); ++j) {
    const std::size_t n = first + 2 * j;
    even[j] = kPcgJumps.power[n] * state + kPcgJumps.sum[n] * increment;
    odd[j] = kPcgJumps.power[n + 1] * state + kPcgJumps.sum[n + 1] * increment;
  }
  return {hn::Load(d64, even), hn::Load(d64, odd)};
}

template <class D64, class V64>
HWY_INLINE auto OutputOf(D64 d64, const StatePair<V64>& states) {
  const hn::Repartition<std::uint32_t, D64> d32;
  const auto xorshift = [&](V64 s) HWY_ATTR {
    // The value in both halves, so that a 64-bit shift rotates it.
    return hn::BitCast(d64, hn::DupEven(hn::BitCast(d32, hn::ShiftRight<27>(hn::Xor(hn::ShiftRight<18>(s), s)))));
  };
  const auto even = hn::Shr(xorshift(states.even), hn::ShiftRight<59>(states.even));
  const auto odd =
      hn::Shl(xorshift(states.odd), hn::Sub(hn::Set(d64, std::uint64_t{32}), hn::ShiftRight<59>(states.odd)));
  return hn::OddEven(hn::BitCast(d32, odd), hn::BitCast(d32, even));
}

// Calls store(i, words) for every full vector of words, and store_one(i, word) for the rest.
template <class Store, class StoreOne>
HWY_INLINE std::uint64_t ForEachWord(std::uint64_t state, std::uint64_t increment, std::size_t count,
                                     const Store& store, const StoreOne& store_one) {
  const hn::ScalableTag<std::uint32_t> d32;
  const hn::Repartition<std::uint64_t, decltype(d32)> d64;
  constexpr std::size_t kWords = hn::MaxLanes(d32);
  std::size_t i = 0;
  if (count >= kWords) {
    // Two vectors of words in turn: a step has to wait for the multiplication of the one before it.
    auto first = StatesFrom(d64, state, increment, 0);
    auto second = StatesFrom(d64, state, increment, kWords);
    const std::uint64_t power = kPcgJumps.power[2 * kWords];
    const auto add = hn::Set(d64, kPcgJumps.sum[2 * kWords] * increment);
    for (; i + 2 * kWords <= count; i += 2 * kWords) {
      store(i, OutputOf(d64, first));
      store(i + kWords, OutputOf(d64, second));
      first.even = hn::Add(MulLow(d64, first.even, power), add);
      first.odd = hn::Add(MulLow(d64, first.odd, power), add);
      second.even = hn::Add(MulLow(d64, second.even, power), add);
      second.odd = hn::Add(MulLow(d64, second.odd, power), add);
    }
    state = hn::GetLane(first.even);
    if (i + kWords <= count) {
      store(i, OutputOf(d64, first));
      state = hn::GetLane(second.even);
      i += kWords;
    }
  }
  for (; i < count; ++i) {
    store_one(i, Output(state));
    state = Bump(state, increment);
  }
  return state;
}

std::uint64_t FillWords(std::uint64_t state, std::uint64_t increment, std::uint32_t* HWY_RESTRICT out,
                        std::size_t count) {
  const hn::ScalableTag<std::uint32_t> d32;
  return ForEachWord(
      state, increment, count, [&](std::size_t i, auto words) HWY_ATTR { hn::StoreU(words, d32, out + i); },
      [&](std::size_t i, std::uint32_t word) { out[i] = word; });
}

std::uint64_t FillUniform(std::uint64_t state, std::uint64_t increment, float low, float high, float* HWY_RESTRICT out,
                          std::size_t count) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const float range = high - low;
  const auto range_vector = hn::Set(d, range);
  const auto low_vector = hn::Set(d, low);
  const auto unit = hn::Set(d, 0x1.0p-24F);
  return ForEachWord(
      state, increment, count,
      [&](std::size_t i, auto words) HWY_ATTR {
        const auto uniform = hn::Mul(hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<8>(words))), unit);
        hn::StoreU(hn::Add(low_vector, hn::Mul(range_vector, uniform)), d, out + i);
      },
      [&](std::size_t i, std::uint32_t word) { out[i] = low + range * (static_cast<float>(word >> 8) * 0x1.0p-24F); });
}

std::uint64_t FillNormal(std::uint64_t state, std::uint64_t increment, float scale, float* HWY_RESTRICT out,
                         std::size_t count) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::RebindToUnsigned<decltype(d)> du;
  const auto scale_vector = hn::Set(d, scale);
  const auto unit = hn::Set(d, 0x1.0p-24F);
  return ForEachWord(
      state, increment, count,
      [&](std::size_t i, auto words) HWY_ATTR {
        const auto odd = hn::Sub(hn::BitCast(di, hn::Or(hn::ShiftLeft<1>(hn::ShiftRight<8>(words)), hn::Set(du, 1U))),
                                 hn::Set(di, 1 << 24));
        const auto normal = vmath::NormalFromSymmetric(d, hn::Mul(hn::ConvertTo(d, odd), unit));
        hn::StoreU(hn::Mul(scale_vector, normal), d, out + i);
      },
      [&](std::size_t i, std::uint32_t word) {
        const auto odd = static_cast<std::int32_t>(((word >> 8) << 1) | 1U) - (1 << 24);
        out[i] = scale * math::NormalFromSymmetric(static_cast<float>(odd) * 0x1.0p-24F);
      });
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(FillWords);
HWY_EXPORT(FillUniform);
HWY_EXPORT(FillNormal);

namespace internal {

std::uint64_t FillWords(std::uint64_t state, std::uint64_t increment, std::uint32_t* out, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(FillWords)(state, increment, out, count);
}

std::uint64_t FillUniform(std::uint64_t state, std::uint64_t increment, float low, float high, float* out,
                          std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(FillUniform)(state, increment, low, high, out, count);
}

std::uint64_t FillNormal(std::uint64_t state, std::uint64_t increment, float scale, float* out, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(FillNormal)(state, increment, scale, out, count);
}

}  // namespace internal
}  // namespace iterand
#endif  // HWY_ONCE
