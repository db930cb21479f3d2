#include "randnet/base/fma_peak.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "randnet/base/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "randnet/base/fma_peak.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace iterand::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_NOINLINE double RunFmas(std::int64_t steps) {
  const HWY_CAPPED(float, 16) d;
  using V = hn::Vec<decltype(d)>;
  constexpr int kChains = 12;  // at least latency times throughput on all cores of today
  volatile float source = 1e-3F;
  const V factor = hn::Set(d, 1.0F - source);
  V sum[kChains];
  HWY_UNROLL(12)
  for (int i = 0; i < kChains; ++i) sum[i] = hn::Set(d, source * static_cast<float>(i));
  for (std::int64_t n = 0; n < steps; ++n) {
    HWY_UNROLL(12)
    for (V& chain : sum) chain = hn::MulAdd(chain, factor, factor);
  }
  V total = sum[0];
  for (int i = 1; i < kChains; ++i) total = hn::Add(total, sum[i]);
  source = hn::GetLane(total);
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(steps);
}

// As in a reservoir: eight floats that are anywhere in 8 KB, for each fma others.
HWY_NOINLINE double RunIndexedFmas(std::int64_t steps) {
  const HWY_CAPPED(float, 8) d;
  using V = hn::Vec<decltype(d)>;
  constexpr int kChains = 8;
  constexpr int kPlaces = 256;
  constexpr int kVectors = 8 / static_cast<int>(hn::MaxLanes(d));
  HWY_ALIGN static const float places[kPlaces * 8] = {};
  static const auto indices = [] {
    std::array<std::uint16_t, kPlaces * kChains> made{};
    for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<std::uint16_t>(i * 167 % kPlaces);
    return made;
  }();
  const V factor = hn::Set(d, 0.5F);
  V sum[kChains][kVectors];
  for (auto& chain : sum) {
    for (V& part : chain) part = hn::Zero(d);
  }
  for (std::int64_t n = 0; n < steps; ++n) {
    const std::uint16_t* const at = indices.data() + n % kPlaces * kChains;
    HWY_UNROLL(8)
    for (int i = 0; i < kChains; ++i) {
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) {
        const float* const from = places + std::ptrdiff_t{8} * at[i] + v * static_cast<int>(hn::MaxLanes(d));
        sum[i][v] = hn::MulAdd(hn::Load(d, from), factor, sum[i][v]);
      }
    }
  }
  V total = hn::Zero(d);
  for (auto& chain : sum) {
    for (V& part : chain) total = hn::Add(total, part);
  }
  volatile float sink = hn::GetLane(total);
  static_cast<void>(sink);
  return 2.0 * kChains * 8 * static_cast<double>(steps);
}

HWY_NOINLINE float RunReads(const float* floats, std::int64_t count) {
  const HWY_CAPPED(float, 16) d;
  using V = hn::Vec<decltype(d)>;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(d));
  V sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (std::int64_t i = 0; i < count; i += 4 * kLanes) {
    HWY_UNROLL(4)
    for (int v = 0; v < 4; ++v) sum[v] = hn::Add(sum[v], hn::Load(d, floats + i + v * kLanes));
  }
  return hn::GetLane(hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3])));
}

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(RunFmas);
HWY_EXPORT(RunIndexedFmas);
HWY_EXPORT(RunReads);

double RunFmas(std::int64_t steps) { return HWY_DYNAMIC_DISPATCH(RunFmas)(steps); }

double RunIndexedFmas(std::int64_t steps) { return HWY_DYNAMIC_DISPATCH(RunIndexedFmas)(steps); }

float RunReads(const float* floats, std::int64_t count) { return HWY_DYNAMIC_DISPATCH(RunReads)(floats, count); }

}  // namespace iterand
#endif  // HWY_ONCE
