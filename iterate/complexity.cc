#include "iterate/complexity.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace iterand {
namespace {

constexpr int kMinMatch = 3;
constexpr int kMaxChain = 16;
constexpr int kHashBits = 12;

std::uint32_t Hash(const Symbol* at) {
  const std::uint64_t three = at[0] | static_cast<std::uint64_t>(at[1]) << 16 | static_cast<std::uint64_t>(at[2]) << 32;
  return static_cast<std::uint32_t>((three * 0x9E3779B97F4A7C15U) >> (64 - kHashBits));
}

std::uint64_t FloorLog2(std::uint64_t value) { return static_cast<std::uint64_t>(std::bit_width(value)) - 1; }

}  // namespace

std::uint32_t FixedLog2(std::uint64_t value) {
  const std::uint64_t whole = FloorLog2(value);
  // Mantissa in [1, 2) with 32 fractional bits; each squaring yields one bit of the logarithm.
  std::uint64_t mantissa = whole > 32 ? value >> (whole - 32) : value << (32 - whole);
  std::uint32_t fraction = 0;
  for (int bit = 15; bit >= 0; --bit) {
    mantissa = static_cast<std::uint64_t>((static_cast<unsigned __int128>(mantissa) * mantissa) >> 32);
    if (mantissa >> 33 != 0) {
      mantissa >>= 1;
      fraction |= std::uint32_t{1} << bit;
    }
  }
  return static_cast<std::uint32_t>(whole << 16) | fraction;
}

ComplexityMeter::ComplexityMeter(int alphabet, int length)
    : plain_(Plain(alphabet, length)),
      length_(length),
      log2_(static_cast<std::size_t>(length) + 1),
      head_(std::size_t{1} << kHashBits),
      previous_(static_cast<std::size_t>(length)),
      literals_(static_cast<std::size_t>(alphabet)) {
  for (std::size_t i = 1; i < log2_.size(); ++i) log2_[i] = FixedLog2(i);
}

ComplexityBand::ComplexityBand(double low, double high, std::uint64_t plain)
    : low_(static_cast<std::uint64_t>(std::ceil(std::max(low, 0.0) * static_cast<double>(plain)))),
      high_(static_cast<std::uint64_t>(high * static_cast<double>(plain))) {}

std::uint64_t ComplexityMeter::MeasureFirst(const Symbol* row, int length) {
  std::fill(head_.begin(), head_.end(), -1);
  std::fill(literals_.begin(), literals_.end(), 0);
  std::uint64_t match_bits = 0;
  std::uint64_t matches = 0;
  std::uint64_t literals = 0;
  const auto insert = [&](int at) {
    if (at + kMinMatch > length) return;
    std::int32_t& head = head_[Hash(row + at)];
    previous_[static_cast<std::size_t>(at)] = head;
    head = at;
  };
  for (int at = 0; at < length;) {
    int best = 0;
    int distance = 0;
    if (at + kMinMatch <= length) {
      std::int32_t candidate = head_[Hash(row + at)];
      for (int tries = 0; candidate >= 0 && tries < kMaxChain; ++tries) {
        int n = 0;
        while (at + n < length && row[candidate + n] == row[at + n]) ++n;
        if (n > best) {
          best = n;
          distance = at - candidate;
        }
        candidate = previous_[static_cast<std::size_t>(candidate)];
      }
    }
    int step = 1;
    if (best >= kMinMatch) {
      ++matches;
      match_bits +=
          FloorLog2(static_cast<std::uint64_t>(distance)) + 1 + 2 * FloorLog2(static_cast<std::uint64_t>(best - 2)) + 1;
      step = best;
    } else {
      ++literals;
      ++literals_[row[at]];
    }
    // Inside a long run every position has the same hash; the last few are enough to find the run again.
    const int first = std::max(at, at + step - 2 * kMaxChain);
    if (first > at) insert(at);
    for (int i = first; i < at + step; ++i) insert(i);
    at += step;
  }
  std::uint64_t bits = match_bits << 16;
  bits += literals * log2_[literals];
  for (const std::uint32_t count : literals_) {
    if (count > 0) bits -= static_cast<std::uint64_t>(count) * log2_[count];
  }
  const std::uint64_t phrases = literals + matches;
  bits += phrases * log2_[phrases] - literals * log2_[literals] - matches * log2_[matches];
  return bits;
}

}  // namespace iterand
