// The flag --target=NAME of benchmarks of vector code.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string_view>
#include <vector>

// clang-format off
#include "randnet/base/simd.h"  // says which targets there are, so it must come before highway.h
#include "hwy/highway.h"
// clang-format on

namespace iterand::bench {

// If the first argument is --target=NAME, removes it and makes the kernels use that target. Prints an error and returns
// false if the processor does not run it. `chosen`, if not null, receives the target in use.
inline bool TakeTargetFlag(const char* program, int& argc, char**& argv, std::int64_t* chosen = nullptr) {
  constexpr std::string_view kFlag = "--target=";
  std::vector<std::int64_t> targets = hwy::SupportedAndGeneratedTargets();  // the best comes first
  if (argc > 1 && std::string_view(argv[1]).starts_with(kFlag)) {
    const std::string_view name = std::string_view(argv[1]).substr(kFlag.size());
    std::erase_if(targets, [name](std::int64_t target) { return hwy::TargetName(target) != name; });
    if (targets.empty()) {
      std::fprintf(stderr, "%s: --target: this processor does not run %s\n", program, argv[1] + kFlag.size());
      return false;
    }
    hwy::SetSupportedTargetsForTest(targets.front());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    argv[1] = argv[0];
    ++argv;
    --argc;
  }
  if (chosen != nullptr) *chosen = targets.front();
  return true;
}

}  // namespace iterand::bench
