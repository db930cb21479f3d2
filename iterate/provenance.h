// Where rows and sequences come from.
#pragma once

#include <cstdint>

namespace iterand {

// Which family made a row last, and how many programs the row has passed through since it was noise.
struct RowOrigin {
  std::uint16_t family = 0;
  std::uint16_t depth = 0;
};

// Where a sequence came from.
struct RowProvenance {
  std::uint32_t lane = 0;
  std::uint32_t row = 0;  // within the round
  std::uint64_t segment = 0;
  std::uint64_t round = 0;   // within the segment (within the lane, if the recipe's pool is endless)
  std::uint16_t part = 0;    // of a mixture (iterate/mixture.h), from 0; else 0
  std::uint16_t family = 0;  // number in the list of families of the recipe, or of the part's recipe, from 0
  std::uint16_t depth = 0;   // programs passed through since it was noise

  friend bool operator==(const RowProvenance&, const RowProvenance&) = default;
};

}  // namespace iterand
