#include "randnet/gamma_simd.h"

#include "randnet/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/gamma_simd.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/math-inl.h"
#include "randnet/pcg-inl.h"

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

// Successive states of a PCG32, as many as there are 32-bit lanes, in two vectors.
template <class D64>
struct States {
  hn::Vec<D64> low;
  hn::Vec<D64> high;
};

// Those from a state on, by jumps from it: one after the other would take longer than it takes to make words of them.
template <class D64>
HWY_INLINE States<D64> StatesFrom(D64 d64, std::uint64_t state, std::uint64_t increment) {
  const auto from = [&](std::size_t n) HWY_ATTR {
    return hn::Add(MulLow(d64, hn::LoadU(d64, internal::kPcgJumps.power.data() + n), state),
                   MulLow(d64, hn::LoadU(d64, internal::kPcgJumps.sum.data() + n), increment));
  };
  return {from(0), from(hn::Lanes(d64))};
}

// Those `steps` further.
template <class D64>
HWY_INLINE States<D64> Jump(D64 d64, const States<D64>& states, std::uint64_t increment, std::size_t steps) {
  const std::uint64_t power = internal::kPcgJumps.power[steps];
  const auto add = hn::Set(d64, internal::kPcgJumps.sum[steps] * increment);
  return {hn::Add(MulLow(d64, states.low, power), add), hn::Add(MulLow(d64, states.high, power), add)};
}

// The words of states.
template <class D32, class D64>
HWY_INLINE hn::Vec<D32> Words(D32 d32, D64 d64, const States<D64>& states) {
  const auto half = [&](auto s) HWY_ATTR {
    // The value that is rotated stands in both halves, so that a shift rotates it.
    const auto twice = hn::DupEven(hn::BitCast(d32, hn::ShiftRight<27>(hn::Xor(hn::ShiftRight<18>(s), s))));
    return hn::BitCast(d32, hn::Shr(hn::BitCast(d64, twice), hn::ShiftRight<59>(s)));
  };
  return hn::ConcatEven(d32, half(states.high), half(states.low));
}

std::uint64_t ProposeLogGammas(const GammaShape& shape, std::uint64_t state, std::uint64_t increment,
                               float* HWY_RESTRICT values, float* HWY_RESTRICT boosts, std::size_t count) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Repartition<std::uint64_t, decltype(d)> d64;
  const auto one = hn::Set(d, 1.0F);
  const std::size_t lanes = hn::Lanes(d);
  std::uint64_t rejected = 0;
  auto states = StatesFrom(d64, state, increment);
  for (std::size_t i = 0; i < count; i += lanes, states = Jump(d64, states, increment, lanes)) {
    const auto uniform_states = Jump(d64, states, increment, count);
    const auto words = Words(du, d64, states);
    const auto odd = hn::Sub(hn::BitCast(di, hn::Or(hn::ShiftLeft<1>(hn::ShiftRight<8>(words)), hn::Set(du, 1U))),
                             hn::Set(di, 1 << 24));
    const auto x = vmath::NormalFromSymmetric(d, hn::Mul(hn::ConvertTo(d, odd), hn::Set(d, 0x1.0p-24F)));
    const auto root = hn::MulAdd(hn::Set(d, shape.c), x, one);
    const auto log_u = vmath::Log(d, PositiveUniform(d, Words(du, d64, uniform_states)));
    const auto v = hn::Mul(hn::Mul(root, root), root);
    const auto proposal = vmath::Log(d, v);
    const auto tail = hn::Mul(hn::Set(d, shape.d), hn::Add(hn::Sub(one, v), proposal));
    const auto bound = hn::MulAdd(hn::Mul(hn::Set(d, 0.5F), x), x, tail);
    const auto accept = hn::And(hn::Lt(log_u, bound), hn::Gt(root, hn::Zero(d)));
    std::uint64_t bits = 0;
    hn::StoreMaskBits(d, hn::Not(accept), reinterpret_cast<std::uint8_t*>(&bits));
    rejected |= bits << i;
    hn::StoreU(hn::Add(hn::Set(d, shape.log_d), proposal), d, values + i);
    auto boost = hn::Zero(d);
    if (shape.boosts) {
      const auto boost_words = Words(du, d64, Jump(d64, uniform_states, increment, count));
      boost = hn::Div(vmath::Log(d, PositiveUniform(d, boost_words)), hn::Set(d, shape.shape));
    }
    hn::StoreU(boost, d, boosts + i);
  }
  return rejected & (~std::uint64_t{0} >> (64 - count));
}

void ExpBelowLargest(float* HWY_RESTRICT values, std::size_t count) {
  const hn::ScalableTag<float> d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t whole = count - count % lanes;
  const auto rest = hn::FirstN(d, count - whole);
  auto largest = hn::Set(d, values[0]);
  for (std::size_t i = 0; i < whole; i += lanes) largest = hn::Max(largest, hn::LoadU(d, values + i));
  if (whole < count) {
    largest = hn::Max(largest, hn::IfThenElse(rest, hn::MaskedLoad(rest, d, values + whole), largest));
  }
  largest = hn::MaxOfLanes(d, largest);
  for (std::size_t i = 0; i < whole; i += lanes) {
    hn::StoreU(vmath::Exp(d, hn::Sub(hn::LoadU(d, values + i), largest)), d, values + i);
  }
  if (whole == count) return;
  const auto last = hn::MaskedLoad(rest, d, values + whole);
  hn::BlendedStore(vmath::Exp(d, hn::Sub(last, largest)), rest, d, values + whole);
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(ProposeLogGammas);
HWY_EXPORT(ExpBelowLargest);

namespace internal {

std::uint64_t ProposeLogGammas(const GammaShape& shape, std::uint64_t state, std::uint64_t increment, float* values,
                               float* boosts, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(ProposeLogGammas)(shape, state, increment, values, boosts, count);
}

void ExpBelowLargest(float* values, std::size_t count) { HWY_DYNAMIC_DISPATCH(ExpBelowLargest)(values, count); }

}  // namespace internal
}  // namespace iterand
#endif  // HWY_ONCE
