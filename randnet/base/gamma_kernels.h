// Vector code of randnet/base/discrete.cc: many gamma variates at once, and the alias tables of their weights.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "randnet/base/discrete.h"
#include "randnet/base/pcg.h"

namespace iterand::internal {

// Most values that one call handles.
inline constexpr std::size_t kGammaChunk = 64;

// Elements that every array must have after its `count`, since whole vectors are written.
inline constexpr std::size_t kGammaLanes = 16;

static_assert(3 * kGammaChunk < PcgJumps::kCount, "a value takes up to three words");

// Every second one of kPcgJumps, contiguous for vector loads: entry kFront + n is 2 n steps on, up to two vectors of
// them. The entries in front are read together with them and mean nothing.
struct PcgPairJumps {
  static constexpr std::size_t kFront = kGammaLanes;
  static constexpr std::size_t kCount = kFront + 2 * kGammaLanes;
  std::array<std::uint64_t, kCount> power;
  std::array<std::uint64_t, kCount> sum;
};
constexpr PcgPairJumps MakePcgPairJumps() {
  PcgPairJumps jumps{};
  for (std::size_t n = PcgPairJumps::kFront; n < PcgPairJumps::kCount; ++n) {
    jumps.power[n] = kPcgJumps.power[2 * (n - PcgPairJumps::kFront)];
    jumps.sum[n] = kPcgJumps.sum[2 * (n - PcgPairJumps::kFront)];
  }
  return jumps;
}
inline constexpr PcgPairJumps kPcgPairJumps = MakePcgPairJumps();

// One chunk of DrawLogGammas from the words of a PCG32 with this state and increment (odd): the logarithms of the
// variates, as far as their first proposals were accepted, to values[i], and what the boost adds to them (0 without
// one) to boosts[i]. Returns which first proposals were rejected: bit i for value i.
std::uint64_t ProposeLogGammas(const GammaShape& shape, std::uint64_t state, std::uint64_t increment, float* values,
                               float* boosts, std::size_t count);

// values[i] = e^(values[i] - the largest value), exactly `count` of them, at least one.
void ExpBelowLargest(float* values, std::size_t count);

// A table to be drawn from the words of a PCG32 with this state and increment.
struct DirichletTable {
  std::uint64_t state;
  std::uint64_t increment;
  AliasColumn* columns;
};

// AliasBuilder::DrawDirichlet for 1 to kGammaChunk columns. False, and nothing is written, if there are more columns
// than four vectors hold, or if it would have to try longer than it does.
bool DrawDirichletTable(const GammaShape& shape, const DirichletTable& table, std::size_t count);

// The same for two tables in step, which takes little longer than one.
bool DrawTwoDirichletTables(const GammaShape& shape, const DirichletTable (&tables)[2], std::size_t count);

}  // namespace iterand::internal
