#include "randnet/rng_simd.h"

#include <bit>

#include "randnet/pcg.h"
#include "randnet/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/rng_simd.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/math-inl.h"
#include "randnet/pcg-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline std::uint64_t Bump(std::uint64_t state, std::uint64_t increment) { return state * kPcgMultiplier + increment; }

inline std::uint32_t Output(std::uint64_t state) {
  return std::rotr(static_cast<std::uint32_t>(((state >> 18) ^ state) >> 27), static_cast<int>(state >> 59));
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
    // 64-bit lane j of `even` makes word 2j of a vector, of `odd` word 2j + 1: the rotation can leave its result in the
    // upper half as well as in the lower, and the two interleave for nothing.
    HWY_ALIGN std::uint64_t even_states[kWords / 2];
    HWY_ALIGN std::uint64_t odd_states[kWords / 2];
    std::uint64_t multiplier = 1;  // A^kWords, and the increment of a jump by kWords
    std::uint64_t jump = 0;
    for (std::size_t j = 0; j < kWords / 2; ++j) {
      even_states[j] = state;
      odd_states[j] = Bump(state, increment);
      state = Bump(odd_states[j], increment);
      for (int n = 0; n < 2; ++n) {
        multiplier *= kPcgMultiplier;
        jump = Bump(jump, increment);
      }
    }
    auto even = hn::Load(d64, even_states);
    auto odd = hn::Load(d64, odd_states);
    const auto add = hn::Set(d64, jump);
    const auto thirty_two = hn::Set(d64, std::uint64_t{32});
    const auto xorshift = [&](auto s) HWY_ATTR {
      // The value in both halves, so that a 64-bit shift rotates it.
      return hn::BitCast(d64, hn::DupEven(hn::BitCast(d32, hn::ShiftRight<27>(hn::Xor(hn::ShiftRight<18>(s), s)))));
    };
    for (; i + kWords <= count; i += kWords) {
      const auto even_words = hn::Shr(xorshift(even), hn::ShiftRight<59>(even));
      const auto odd_words = hn::Shl(xorshift(odd), hn::Sub(thirty_two, hn::ShiftRight<59>(odd)));
      store(i, hn::OddEven(hn::BitCast(d32, odd_words), hn::BitCast(d32, even_words)));
      even = hn::Add(MulLow(d64, even, multiplier), add);
      odd = hn::Add(MulLow(d64, odd, multiplier), add);
    }
    hn::Store(even, d64, even_states);
    state = even_states[0];
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
