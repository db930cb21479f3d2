// What a fuzz target checks about its run.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace iterand {

// Ends the process, which libFuzzer reports as a crash with the input that led there.
inline void Expect(bool holds, std::string_view claim) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %.*s\n", static_cast<int>(claim.size()), claim.data());
  std::abort();
}

}  // namespace iterand
