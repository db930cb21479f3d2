// The pool of a recipe, checked and ready to use.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "iterand/v1/recipe.pb.h"

namespace iterand {

struct PoolSettings {
  // Writes the default of emit_rows, which depends on other fields.
  static void ComputeDefaults(v1::Pool& config);
  // Takes a message with every default written out, whose fields are within the ranges of the schema. Errors:
  // InvalidArgument that names the field below "pool", its value and what is allowed.
  static absl::StatusOr<PoolSettings> Make(const v1::Pool& config);

  int pool_rows;
  int program_rows;   // rows that one round computes
  int constant_rows;  // written into the pool each round
  int noise_rows;     // likewise
  int emit_rows;      // emission SAMPLE
  bool evict;         // emission EVICT
  bool iterate;
  bool endless;

  // Rows that are generated for one row that is emitted.
  double RowsPerEmitted() const;
  // The most rows that one round emits.
  int MaxEmitted() const;
  // Bounds on the number of rounds that emit this many rows.
  std::uint64_t MinRounds(std::uint64_t emitted) const;
  double MaxRounds(double emitted) const;
};

}  // namespace iterand
