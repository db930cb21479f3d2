// The complexity of a row, in integer arithmetic: what the `band` filter measures.
//
// The measure is an estimate of a Lempel-Ziv code's length (Ziv and Lempel 1977) as a share of the plain row's:
//
//   complexity = bits / (length * log2(alphabet))
//
// The row is parsed greedily from the left. At each position the longest match of at least 3 symbols is taken, the
// nearest of equal ones (a match may overlap itself), else one literal. The search looks at the 16 positions last
// entered under the same 12-bit hash of the 3 symbols that begin there. All positions are entered, except that of a
// match only the first and the last 32 are. Then
//
//   bits = code length of the literals under their own histogram                 (entropy, order 0)
//        + code length of the sequence of literal/match flags under its histogram
//        + for each match  floor(log2(distance)) + 1  +  2 * floor(log2(match length - 2)) + 1
//
// Logarithms of counts are fixed-point with 16 fractional bits, made by integer squaring. Constants measure near 0,
// noise near 1 (a little less for short rows, whose histogram is not flat). Relabelling the alphabet changes almost
// nothing: only which other symbols share a hash, and so take up some of the 16 positions.
#pragma once

#include <cstdint>
#include <vector>

#include "randnet/block.h"

namespace iterand {

// log2(value) in units of 2^-16 bits, rounded down; value > 0.
std::uint32_t FixedLog2(std::uint64_t value);

// Measures rows of one length and alphabet; its memory is made once. Not thread-safe.
class ComplexityMeter {
 public:
  ComplexityMeter(int alphabet, int length);

  // Estimated code length of a row, in units of 2^-16 bits.
  std::uint64_t Measure(const Symbol* row) { return MeasureFirst(row, length_); }

  // The same of the first `length` symbols of a row, at most as many as it has, as if they were the row.
  std::uint64_t MeasureFirst(const Symbol* row, int length);

  // Code length of a row of complexity 1, in the same units.
  std::uint64_t plain() const { return plain_; }
  static std::uint64_t Plain(int alphabet, int length) {
    return static_cast<std::uint64_t>(length) * FixedLog2(static_cast<std::uint64_t>(alphabet));
  }

 private:
  std::uint64_t plain_;
  int length_;
  std::vector<std::uint32_t> log2_;      // of 0 .. length (entry 0 unused)
  std::vector<std::int32_t> head_;       // hash of 3 symbols -> last position, or -1
  std::vector<std::int32_t> previous_;   // position -> previous position of the same hash
  std::vector<std::uint32_t> literals_;  // histogram, by symbol
};

// A band of complexities, in code lengths.
class ComplexityBand {
 public:
  // Rows whose code length is within [low, high] x plain.
  ComplexityBand(double low, double high, std::uint64_t plain);

  bool Contains(std::uint64_t bits) const { return bits >= low_ && bits <= high_; }

 private:
  std::uint64_t low_;
  std::uint64_t high_;
};

}  // namespace iterand
