#include "randnet/base/fma_peak.h"

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

}  // namespace iterand::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace iterand {

HWY_EXPORT(RunFmas);

double RunFmas(std::int64_t steps) { return HWY_DYNAMIC_DISPATCH(RunFmas)(steps); }

}  // namespace iterand
#endif  // HWY_ONCE
