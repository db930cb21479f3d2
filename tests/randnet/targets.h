// Runs a check once for every vector target that was compiled and that this processor has.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

// clang-format off
#include "randnet/base/simd.h"  // says which targets there are, so it must come before highway.h
#include "hwy/highway.h"
// clang-format on

namespace iterand {

// Calls check(name) with each target chosen in turn, then returns to the best one.
template <typename Check>
void ForEachTarget(const Check& check) {
  const std::vector<std::int64_t> targets = hwy::SupportedAndGeneratedTargets();
  ASSERT_FALSE(targets.empty());
  for (const std::int64_t target : targets) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    check(hwy::TargetName(target));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace iterand
