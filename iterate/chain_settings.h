// The chain of a recipe, checked and ready to use.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"
#include "randnet/knob.h"

namespace iterand {

struct ChainSettings {
  // Takes a message with every default written out, whose fields are within the ranges of the schema. Errors:
  // InvalidArgument that names the field below "chain", its value and what is allowed.
  static absl::StatusOr<ChainSettings> Make(const v1::Chain& config);

  IntegerKnob rows;       // of one program
  IntegerKnob max_depth;  // programs from noise to the last row
  // Probabilities in units of 2^-24 (ShareThreshold).
  std::uint32_t initial_constant;
  std::uint32_t noise;
  std::uint32_t noise_or_constant;
};

}  // namespace iterand
