// A segment: a bounded stretch of a lane, the unit of random access, of caching and of parallel work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace iterand {

// Element type of served tokens: the smallest that holds vocab_size values.
enum class Dtype : std::uint8_t { kUint8 = 1, kUint16 = 2, kUint32 = 4 };

// Bytes of one token.
constexpr std::size_t DtypeBytes(Dtype dtype) { return static_cast<std::size_t>(dtype); }

// Where a sequence came from.
struct RowProvenance {
  std::uint32_t lane = 0;
  std::uint64_t segment = 0;
  std::uint64_t round = 0;   // within the segment (within the lane, if the recipe's pool is endless)
  std::uint32_t row = 0;     // within the round
  std::uint16_t family = 0;  // place in the recipe's list of families
  std::uint16_t depth = 0;   // programs passed through since it was noise

  friend bool operator==(const RowProvenance&, const RowProvenance&) = default;
};

// The sequences of one segment, in the order of their places: segment_sequences x length tokens, row-major, each
// DtypeBytes(dtype) wide in the machine's byte order (little-endian on all supported machines).
struct Segment {
  std::vector<std::byte> tokens;
  std::vector<RowProvenance> provenance;  // one a sequence
  // 1 where a token is to be predicted, else 0, in the order of the tokens; empty unless the recipe has loss_mask.
  std::vector<std::uint8_t> mask;
  // Symbols that programs wrote for this segment, those of dropped rows and of trials too.
  std::uint64_t generated_symbols = 0;

  // Memory held, in bytes.
  std::size_t bytes() const {
    return tokens.capacity() + mask.capacity() + provenance.capacity() * sizeof(RowProvenance);
  }
};

}  // namespace iterand
