// Checks of the numbers of a recipe, with one message for all of them; and shares.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace iterand {

// InvalidArgument naming `path` unless min <= value <= max; `why` ends the message.
template <typename Number>
absl::Status CheckRange(std::string_view path, Number value, std::type_identity_t<Number> min,
                        std::type_identity_t<Number> max, std::string_view why = "") {
  if (value >= min && value <= max) return absl::OkStatus();  // false for NaN
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(path), ": is ", value, ", must be in [", min, ", ", max, "]", std::string(why)));
}

// The same for a probability.
inline absl::Status CheckShare(std::string_view path, double value) { return CheckRange(path, value, 0, 1); }

// An event of probability `share` is "Rng::Next() >> 8 is below this": units of 2^-24.
inline std::uint32_t ShareThreshold(double share) { return static_cast<std::uint32_t>(share * 0x1.0p24); }

}  // namespace iterand
