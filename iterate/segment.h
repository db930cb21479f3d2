// A segment: a bounded stretch of a lane, the unit of random access, of caching and of parallel work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
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

// The sequences of one segment: `length` tokens each, DtypeBytes(dtype) wide in the machine's byte order (little-endian
// on all supported machines). They lie one after the other in memory of the segment's own, or elsewhere at any distance
// from each other: a server places segments so that sequences lie in the order in which it sends them.
struct Segment {
  Segment() = default;
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;
  Segment(Segment&&) = default;
  Segment& operator=(Segment&&) = default;

  // Has the tokens written to memory of others, which `memory` keeps: those of place p at first + p * stride bytes.
  // There must be room for all sequences. A null `memory` has them written to the segment's own again.
  void PlaceAt(std::shared_ptr<void> memory, std::byte* first, std::size_t stride);

  // Makes room for so many sequences, of which nothing is written yet.
  void Resize(std::size_t sequences, std::size_t sequence_bytes, std::size_t mask_bytes);

  // Makes `out` equal, wherever it has its tokens.
  void CopyTo(Segment& out) const;

  // The sequence of a place.
  const std::byte* row(std::size_t place) const { return tokens + place * row_stride; }
  std::byte* row(std::size_t place) { return tokens + place * row_stride; }

  std::byte* tokens = nullptr;  // of place 0
  std::size_t row_bytes = 0;    // of a sequence
  std::size_t row_stride = 0;   // from place to place
  std::vector<std::byte> own;   // where the tokens lie, unless they lie elsewhere:
  std::shared_ptr<void> elsewhere;

  std::vector<RowProvenance> provenance;  // one a sequence
  // 1 where a token is to be predicted, else 0, in the order of places and tokens; empty unless the recipe has
  // loss_mask.
  std::vector<std::uint8_t> mask;
  // Symbols that programs wrote for this segment, those of dropped rows and of trials too.
  std::uint64_t generated_symbols = 0;
};

}  // namespace iterand
