#include "randnet/base/noise.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace iterand {

void FillNoise(Rng& rng, int alphabet, std::span<Symbol> out) {
  std::array<std::uint32_t, 512> words;
  while (!out.empty()) {
    const std::size_t n = std::min(out.size(), words.size());
    rng.Fill({words.data(), n});
    if (alphabet > 1 && std::has_single_bit(static_cast<std::uint32_t>(alphabet))) {
      // The same product, by a shift of 31 at most; one symbol would need a shift of 32.
      const int shift = 33 - std::bit_width(static_cast<std::uint32_t>(alphabet));
      for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<Symbol>(words[i] >> shift);
    } else {
      for (std::size_t i = 0; i < n; ++i) {
        out[i] =
            static_cast<Symbol>((static_cast<std::uint64_t>(words[i]) * static_cast<std::uint32_t>(alphabet)) >> 32);
      }
    }
    out = out.subspan(n);
  }
}

void FillConstant(Rng& rng, int alphabet, std::span<Symbol> out) {
  std::fill(out.begin(), out.end(), static_cast<Symbol>(rng.Below(static_cast<std::uint32_t>(alphabet))));
}

}  // namespace iterand
