// Probabilities of a recipe: checked as reals, used as integers.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace iterand {

// InvalidArgument naming `path` unless 0 <= value <= 1.
inline absl::Status CheckShare(const std::string& path, double value) {
  if (value >= 0 && value <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": is ", value, ", must lie within [0, 1]"));
}

// An event of probability `share` is "Rng::Next() >> 8 is below this": units of 2^-24.
inline std::uint32_t ShareThreshold(double share) { return static_cast<std::uint32_t>(share * 0x1.0p24); }

}  // namespace iterand
