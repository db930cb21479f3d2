#include "randnet/base/gamma_kernels.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/base/gamma_kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "randnet/base/math-inl.h"
#include "randnet/base/pcg-inl.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kRoom = internal::kGammaChunk + internal::kGammaLanes;

// Uniform over (0, 1], as Rng::UniformPositive.
template <class D, class V32>
HWY_INLINE hn::Vec<D> PositiveUniform(D d, V32 words) {
  const hn::RebindToSigned<D> di;
  const hn::RebindToUnsigned<D> du;
  const auto steps = hn::Add(hn::ShiftRight<8>(words), hn::Set(du, 1U));
  return hn::Mul(hn::ConvertTo(d, hn::BitCast(di, steps)), hn::Set(d, 0x1.0p-24F));
}

// As many states of a PCG32 as there are 32-bit lanes, in two vectors.
template <class D64>
struct States {
  hn::Vec<D64> low;
  hn::Vec<D64> high;
};

// Those that jumps from one state lead to.
template <class D64>
HWY_INLINE States<D64> StatesFrom(D64 d64, std::uint64_t state, std::uint64_t increment, const std::uint64_t* power,
                                  const std::uint64_t* sum) {
  const auto from = [&](std::size_t n) HWY_ATTR {
    return hn::Add(MulLow(d64, hn::LoadU(d64, power + n), state), MulLow(d64, hn::LoadU(d64, sum + n), increment));
  };
  return {from(0), from(hn::Lanes(d64))};
}

// Those `steps` further.
template <class D64>
HWY_INLINE States<D64> Jump(D64 d64, const States<D64>& states, std::uint64_t increment, std::size_t steps) {
  const std::uint64_t power = kPcgJumps.power[steps];
  const auto add = hn::Set(d64, kPcgJumps.sum[steps] * increment);
  return {hn::Add(MulLow(d64, states.low, power), add), hn::Add(MulLow(d64, states.high, power), add)};
}

// The words of states.
template <class D32, class D64>
HWY_INLINE hn::Vec<D32> Words(D32 d32, D64 d64, const States<D64>& states) {
  const auto half = [&](auto s) HWY_ATTR {
    // Both halves hold the value that is rotated, so that a shift rotates it.
    const auto twice = hn::DupEven(hn::BitCast(d32, hn::ShiftRight<27>(hn::Xor(hn::ShiftRight<18>(s), s))));
    return hn::BitCast(d32, hn::Shr(hn::BitCast(d64, twice), hn::ShiftRight<59>(s)));
  };
  return hn::ConcatEven(d32, half(states.high), half(states.low));
}

// Proposals of ln v, one from each word for a normal and word for a uniform.
template <class D>
struct Proposals {
  hn::Vec<D> log_v;
  hn::Mask<D> accepted;
};

template <class D, class V32>
HWY_INLINE Proposals<D> Propose(D d, const GammaShape& shape, V32 normal_words, V32 uniform_words) {
  const hn::RebindToSigned<D> di;
  const hn::RebindToUnsigned<D> du;
  const auto one = hn::Set(d, 1.0F);
  const auto odd = hn::Sub(hn::BitCast(di, hn::Or(hn::ShiftLeft<1>(hn::ShiftRight<8>(normal_words)), hn::Set(du, 1U))),
                           hn::Set(di, 1 << 24));
  const auto x = vmath::NormalFromSymmetric(d, hn::Mul(hn::ConvertTo(d, odd), hn::Set(d, 0x1.0p-24F)));
  const auto root = hn::MulAdd(hn::Set(d, shape.c), x, one);
  const auto v = hn::Mul(hn::Mul(root, root), root);
  // Both arguments are normal numbers, or v is so small (root nearly 0: x = -1 / c) that the proposal is rejected with
  // any logarithm below -80: its bound is then less than ln u >= -24 ln 2 can be.
  const auto log_v = vmath::LogNormal(d, v);
  const auto log_u = vmath::LogNormal(d, PositiveUniform(d, uniform_words));
  const auto tail = hn::Mul(hn::Set(d, shape.d), hn::Add(hn::Sub(one, v), log_v));
  const auto bound = hn::MulAdd(hn::Mul(hn::Set(d, 0.5F), x), x, tail);
  return {log_v, hn::And(hn::Lt(log_u, bound), hn::Gt(root, hn::Zero(d)))};
}

template <class D, class M>
HWY_INLINE std::uint64_t MaskBits(D d, M mask) {
  std::uint64_t bits = 0;
  hn::StoreMaskBits(d, mask, reinterpret_cast<std::uint8_t*>(&bits));
  return bits;
}

// What a word adds to the logarithm of a variate whose shape boosts.
template <class D, class V32>
HWY_INLINE hn::Vec<D> Boost(D d, const GammaShape& shape, V32 words) {
  return hn::Div(vmath::LogNormal(d, PositiveUniform(d, words)), hn::Set(d, shape.shape));
}

std::uint64_t ProposeLogGammas(const GammaShape& shape, std::uint64_t state, std::uint64_t increment,
                               float* HWY_RESTRICT values, float* HWY_RESTRICT boosts, std::size_t count) {
  if (count == 0) return 0;
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Repartition<std::uint64_t, decltype(d)> d64;
  std::uint64_t accepted = 0;
  for (std::size_t i = 0; i < count; i += hn::Lanes(d)) {
    const auto normal_states = StatesFrom(d64, state, increment, kPcgJumps.power.data() + i, kPcgJumps.sum.data() + i);
    const auto uniform_states = Jump(d64, normal_states, increment, count);
    const auto proposals = Propose(d, shape, Words(du, d64, normal_states), Words(du, d64, uniform_states));
    accepted |= MaskBits(d, proposals.accepted) << i;
    hn::StoreU(hn::Add(hn::Set(d, shape.log_d), proposals.log_v), d, values + i);
    auto boost = hn::Zero(d);
    if (shape.boosts) boost = Boost(d, shape, Words(du, d64, Jump(d64, uniform_states, increment, count)));
    hn::StoreU(boost, d, boosts + i);
  }
  return ~accepted & (~std::uint64_t{0} >> (64 - count));
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

// Turns v, kVectors vectors one after the other, into its suffix sums v[i] + v[i + 1] + ...
template <int kVectors, class D, class V = hn::Vec<D>>
HWY_INLINE void SuffixSums(D d, V (&v)[kVectors]) {
  const auto lanes = static_cast<std::int32_t>(hn::Lanes(d));
  const auto number = hn::Iota(d, 0);
  for (std::int32_t step = 1; step < lanes; step *= 2) {
    const auto moved = hn::IndicesFromVec(d, hn::And(hn::Add(number, hn::Set(d, step)), hn::Set(d, lanes - 1)));
    const auto within = hn::Lt(number, hn::Set(d, lanes - step));
    HWY_UNROLL(8)
    for (int i = 0; i < kVectors; ++i) {
      v[i] = hn::Add(v[i], hn::IfThenElseZero(within, hn::TableLookupLanes(v[i], moved)));
    }
  }
  const auto first = hn::IndicesFromVec(d, hn::Zero(d));
  HWY_UNROLL(8)
  for (int i = kVectors - 2; i >= 0; --i) v[i] = hn::Add(v[i], hn::TableLookupLanes(v[i + 1], first));
}

// AliasBuilder::Build for `count` weights, the largest 1, followed by zeros, and columns that draw their own numbers;
// of kTables tables in step.
//
// Build fills up small columns (of less than one column's mass) from large ones, each kind in descending order. A large
// one that is left with less than a column becomes the next small one. Sums alone therefore determine which large one
// fills a column. Let `lack` be what the small ones before it lack, and `excess` what a large one and those before it
// have more than a column each. The first large one with excess >= lack fills it.
template <int kTables, int kVectors, class D, class V = hn::Vec<D>>
HWY_INLINE void AliasTables(D d, const V (&weights)[kTables][kVectors], const internal::DirichletTable* tables,
                            std::size_t count) {
  constexpr std::int32_t kOne = 1 << 24;
  const hn::RebindToSigned<D> di;
  const std::size_t lanes = hn::Lanes(d);
  using VI = hn::Vec<decltype(di)>;
  HWY_ALIGN float terms[kTables][kRoom];
  HWY_UNROLL(2)
  for (int c = 0; c < kTables; ++c) {
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) hn::Store(weights[c][v], d, terms[c] + static_cast<std::size_t>(v) * lanes);
  }
  float sum[kTables] = {};
  for (std::size_t i = 0; i < count; ++i) {
    HWY_UNROLL(2)
    for (int c = 0; c < kTables; ++c) sum[c] += terms[c][i];
  }
  // The weights in units of 1 / kOne of their sum; rounding's remainder goes to the first of the largest.
  const auto one = hn::Set(di, kOne);
  const auto n = hn::Set(di, static_cast<std::int32_t>(count));
  VI mass[kTables][kVectors];
  VI lacking[kTables][kVectors];  // of a column itself
  VI sums[kTables][kVectors];     // the same, and what those before it lack
  HWY_ALIGN std::int32_t mass_of[kTables][kRoom];
  HWY_ALIGN std::int32_t sum_of[kTables][kRoom];
  std::uint64_t large[kTables] = {};
  HWY_UNROLL(2)
  for (int c = 0; c < kTables; ++c) {
    auto total = hn::Zero(di);
    std::uint64_t ones = 0;
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) {
      const auto share = hn::Div(weights[c][v], hn::Set(d, sum[c]));
      mass[c][v] = hn::ConvertTo(di, hn::Mul(share, hn::Set(d, static_cast<float>(kOne))));
      total = hn::Add(total, mass[c][v]);
      ones |= MaskBits(d, hn::Eq(weights[c][v], hn::Set(d, 1.0F))) << (static_cast<std::size_t>(v) * lanes);
    }
    const auto remainder = hn::Sub(one, hn::SumOfLanes(di, total));
    const auto largest = hn::Set(di, std::countr_zero(ones));
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) {
      const std::size_t first = static_cast<std::size_t>(v) * lanes;
      const auto number = hn::Iota(di, static_cast<std::int32_t>(first));
      mass[c][v] = hn::Mul(hn::Add(mass[c][v], hn::IfThenElseZero(hn::Eq(number, largest), remainder)), n);
      lacking[c][v] = hn::Sub(hn::Max(one, mass[c][v]), mass[c][v]);
      large[c] |= MaskBits(di, hn::Eq(lacking[c][v], hn::Zero(di))) << first;
      if (v == kVectors - 1) lacking[c][v] = hn::IfThenElseZero(hn::Lt(number, n), lacking[c][v]);
      sums[c][v] = lacking[c][v];
      hn::Store(mass[c][v], di, mass_of[c] + first);
    }
    SuffixSums(di, sums[c]);
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) hn::Store(sums[c][v], di, sum_of[c] + static_cast<std::size_t>(v) * lanes);
  }
  const hn::RebindToUnsigned<D> du;
  const hn::Repartition<std::uint64_t, D> d64;
  const hn::Half<decltype(du)> half;
  HWY_UNROLL(2)
  for (int c = 0; c < kTables; ++c) {
    VI from[kVectors];
    int number = std::bit_width(large[c]) - 1;
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) from[v] = hn::Set(di, number);
    std::array<AliasColumn, internal::kGammaChunk> filled;  // the large ones
    std::size_t larges = 0;
    std::int32_t excess = 0;
    for (std::uint64_t rest = large[c]; rest != 0;) {
      rest &= ~(std::uint64_t{1} << number);
      const int next = std::bit_width(rest) - 1;
      excess += mass_of[c][number] - kOne;
      const auto own = static_cast<Symbol>(number);
      if (excess < sum_of[c][0]) {
        std::size_t beyond = 0;  // columns before which more is lacking
        HWY_UNROLL(8)
        for (int v = 0; v < kVectors; ++v) {
          const auto more = hn::Gt(hn::Sub(sums[c][v], lacking[c][v]), hn::Set(di, excess));
          beyond += hn::CountTrue(di, more);
          from[v] = hn::IfThenElse(more, hn::Set(di, next), from[v]);
        }
        filled[larges++] = {static_cast<std::uint32_t>(kOne + excess - sum_of[c][beyond]),
                            {own, static_cast<Symbol>(next)}};
      } else {  // so for the last one
        filled[larges++] = {static_cast<std::uint32_t>(kOne), {own, own}};
      }
      number = next;
    }
    AliasColumn* const columns = tables[c].columns;
    auto* const words = reinterpret_cast<std::uint64_t*>(columns);
    const auto store = [&](auto thresholds, auto drawn, std::size_t i) HWY_ATTR {
      const auto column = hn::Or(hn::PromoteTo(d64, thresholds), hn::ShiftLeft<32>(hn::PromoteTo(d64, drawn)));
      if (i + lanes / 2 <= count) {
        hn::StoreU(column, d64, words + i);
      } else if (i < count) {
        if constexpr (hn::MaxLanes(d64) == 2) {
          words[i] = hn::GetLane(column);  // a blend might touch what follows
        } else {
          hn::BlendedStore(column, hn::FirstN(d64, count - i), d64, words + i);
        }
      }
    };
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) {
      const std::size_t first = static_cast<std::size_t>(v) * lanes;
      const auto numbers = hn::Iota(di, static_cast<std::int32_t>(first));
      const auto drawn = hn::BitCast(du, hn::Or(numbers, hn::ShiftLeft<16>(from[v])));
      const auto thresholds = hn::BitCast(du, mass[c][v]);
      store(hn::LowerHalf(half, thresholds), hn::LowerHalf(half, drawn), first);
      store(hn::UpperHalf(half, thresholds), hn::UpperHalf(half, drawn), first + lanes / 2);
    }
    larges = 0;
    for (std::uint64_t rest = large[c]; rest != 0; ++larges) {
      const int at = std::bit_width(rest) - 1;
      columns[at] = filled[larges];
      rest &= ~(std::uint64_t{1} << at);
    }
  }
}

// DrawDirichletTable and DrawTwoDirichletTables for more than kVectors - 1 and at most kVectors vectors of columns. The
// kTables tables advance in step, because the operations of one table each wait for the one before. The lanes after the
// last value retry those that are rejected: lane count + a makes the attempt with words 2 a and 2 a + 1 of those that
// come after the first proposals and boosts. If that is not enough, another vector makes more.
template <int kTables, int kVectors>
HWY_INLINE bool DirichletTables(const GammaShape& shape, const internal::DirichletTable* tables, std::size_t count) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Repartition<std::uint64_t, decltype(d)> d64;
  const std::size_t lanes = hn::Lanes(d);
  using V = hn::Vec<decltype(d)>;
  const auto& pairs = internal::kPcgPairJumps;
  const std::size_t words = (shape.boosts ? 3 : 2) * count;
  const auto log_d = hn::Set(d, shape.log_d);
  const std::size_t last = static_cast<std::size_t>(kVectors - 1) * lanes;
  const std::size_t spare = last + lanes - count;
  V values[kTables][kVectors];
  V boosts[kTables][kVectors];
  HWY_ALIGN float log_gammas[kTables][2 * internal::kGammaLanes];  // of the attempts
  std::uint64_t accepted[kTables] = {};
  const auto later = [&](int c) {
    return kPcgJumps.power[words] * tables[c].state + kPcgJumps.sum[words] * tables[c].increment;
  };
  HWY_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) {
    HWY_UNROLL(2)
    for (int c = 0; c < kTables; ++c) {
      const std::size_t first = static_cast<std::size_t>(v) * lanes;
      const std::uint64_t increment = tables[c].increment;
      auto normal_states =
          StatesFrom(d64, tables[c].state, increment, kPcgJumps.power.data() + first, kPcgJumps.sum.data() + first);
      auto uniform_states = Jump(d64, normal_states, increment, count);
      const auto boost_states = Jump(d64, uniform_states, increment, count);
      if (v == kVectors - 1) {
        // Entry kFront of the pairs' jumps is that of the first attempt.
        const std::size_t at = internal::PcgPairJumps::kFront + first - count;
        const auto attempt_states =
            StatesFrom(d64, later(c), increment, pairs.power.data() + at, pairs.sum.data() + at);
        const auto next_states = Jump(d64, attempt_states, increment, 1);
        const auto low = hn::FirstN(d64, count - first);
        const auto high = hn::FirstN(d64, std::max(count - first, lanes / 2) - lanes / 2);
        normal_states = {hn::IfThenElse(low, normal_states.low, attempt_states.low),
                         hn::IfThenElse(high, normal_states.high, attempt_states.high)};
        uniform_states = {hn::IfThenElse(low, uniform_states.low, next_states.low),
                          hn::IfThenElse(high, uniform_states.high, next_states.high)};
      }
      const auto proposals = Propose(d, shape, Words(du, d64, normal_states), Words(du, d64, uniform_states));
      accepted[c] |= MaskBits(d, proposals.accepted) << first;
      values[c][v] = hn::Add(log_d, proposals.log_v);
      boosts[c][v] = hn::Zero(d);
      if (v == kVectors - 1) hn::StoreU(values[c][v], d, log_gammas[c] + spare);
      if (shape.boosts) {
        boosts[c][v] = Boost(d, shape, Words(du, d64, boost_states));
        values[c][v] = hn::Add(values[c][v], boosts[c][v]);
      }
    }
  }
  HWY_UNROLL(2)
  for (int c = 0; c < kTables; ++c) {
    std::uint64_t rejected = ~accepted[c] & (~std::uint64_t{0} >> (64 - count));
    const auto replace = [&](float log_gamma) HWY_ATTR {
      const auto which = hn::Set(di, std::countr_zero(rejected));
      rejected &= rejected - 1;
      HWY_UNROLL(8)
      for (int v = 0; v < kVectors; ++v) {
        const auto number = hn::Iota(di, static_cast<std::int32_t>(static_cast<std::size_t>(v) * lanes));
        const auto value = hn::Add(hn::Set(d, log_gamma), boosts[c][v]);
        values[c][v] = hn::IfThenElse(hn::RebindMask(d, hn::Eq(number, which)), value, values[c][v]);
      }
    };
    std::uint64_t good = spare > 0 ? accepted[c] >> count : 0;
    for (; rejected != 0 && good != 0; good &= good - 1) {
      replace(log_gammas[c][lanes + static_cast<std::size_t>(std::countr_zero(good))]);
    }
    if (rejected != 0) {
      const std::size_t at = internal::PcgPairJumps::kFront + spare;
      const std::uint64_t increment = tables[c].increment;
      const auto attempt_states = StatesFrom(d64, later(c), increment, pairs.power.data() + at, pairs.sum.data() + at);
      const auto next_states = Jump(d64, attempt_states, increment, 1);
      const auto proposals = Propose(d, shape, Words(du, d64, attempt_states), Words(du, d64, next_states));
      hn::StoreU(hn::Add(log_d, proposals.log_v), d, log_gammas[c]);
      for (good = MaskBits(d, proposals.accepted); rejected != 0 && good != 0; good &= good - 1) {
        replace(log_gammas[c][std::countr_zero(good)]);
      }
      if (rejected != 0) return false;
    }
  }
  const auto none = hn::Set(d, -std::numeric_limits<float>::infinity());
  HWY_UNROLL(2)
  for (int c = 0; c < kTables; ++c) {
    values[c][kVectors - 1] = hn::IfThenElse(hn::FirstN(d, count - last), values[c][kVectors - 1], none);
    auto largest = values[c][0];
    HWY_UNROLL(8)
    for (int v = 1; v < kVectors; ++v) largest = hn::Max(largest, values[c][v]);
    largest = hn::MaxOfLanes(d, largest);
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) values[c][v] = vmath::Exp(d, hn::Sub(values[c][v], largest));
  }
  AliasTables(d, values, tables, count);
  return true;
}

template <int kTables>
bool DirichletTablesByVectors(const GammaShape& shape, const internal::DirichletTable* tables, std::size_t count) {
  const std::size_t lanes = hn::Lanes(hn::ScalableTag<float>());
  switch ((count + lanes - 1) / lanes) {
    case 1:
      return DirichletTables<kTables, 1>(shape, tables, count);
    case 2:
      return DirichletTables<kTables, 2>(shape, tables, count);
    case 3:
      return DirichletTables<kTables, 3>(shape, tables, count);
    case 4:
      return DirichletTables<kTables, 4>(shape, tables, count);
    default:
      return false;
  }
}

bool DrawDirichletTable(const GammaShape& shape, const internal::DirichletTable* table, std::size_t count) {
  return DirichletTablesByVectors<1>(shape, table, count);
}

bool DrawTwoDirichletTables(const GammaShape& shape, const internal::DirichletTable* tables, std::size_t count) {
  return DirichletTablesByVectors<2>(shape, tables, count);
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(ProposeLogGammas);
HWY_EXPORT(ExpBelowLargest);
HWY_EXPORT(DrawDirichletTable);
HWY_EXPORT(DrawTwoDirichletTables);

namespace internal {

std::uint64_t ProposeLogGammas(const GammaShape& shape, std::uint64_t state, std::uint64_t increment, float* values,
                               float* boosts, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(ProposeLogGammas)(shape, state, increment, values, boosts, count);
}

void ExpBelowLargest(float* values, std::size_t count) { HWY_DYNAMIC_DISPATCH(ExpBelowLargest)(values, count); }

bool DrawDirichletTable(const GammaShape& shape, const DirichletTable& table, std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(DrawDirichletTable)(shape, &table, count);
}

bool DrawTwoDirichletTables(const GammaShape& shape, const DirichletTable (&tables)[2], std::size_t count) {
  return HWY_DYNAMIC_DISPATCH(DrawTwoDirichletTables)(shape, tables, count);
}

}  // namespace internal
}  // namespace iterand
#endif  // HWY_ONCE
