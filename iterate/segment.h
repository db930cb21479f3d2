// A segment: a bounded stretch of a lane, and the unit of random access, caching and parallel work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "iterate/dtype.h"
#include "iterate/provenance.h"

namespace iterand {

// The sequences of one segment: `length` tokens each, DtypeBytes(dtype) wide in the machine's byte order (little-endian
// on all supported machines). They are stored one after the other in the segment's own memory, or in external memory
// with any distance between them. A server uses the latter to store sequences in the order in which it sends them.
struct Segment {
  Segment() = default;
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;
  Segment(Segment&&) = default;
  Segment& operator=(Segment&&) = default;

  // Stores tokens in external memory that `memory` keeps alive: the sequence at place p starts at first + p * stride
  // bytes. There must be room for all sequences. With a null `memory` the segment uses its own memory again.
  void PlaceAt(std::shared_ptr<void> memory, std::byte* first, std::size_t stride);

  // Makes room for `sequences` sequences. Their content is unspecified.
  void Resize(std::size_t sequences, std::size_t sequence_bytes, std::size_t mask_bytes);

  // Copies everything to `out`, which keeps its own place for tokens.
  void CopyTo(Segment& out) const;

  // The sequence of a place.
  const std::byte* row(std::size_t place) const { return tokens + place * row_stride; }
  std::byte* row(std::size_t place) { return tokens + place * row_stride; }

  std::byte* tokens = nullptr;  // of place 0
  std::size_t row_bytes = 0;    // of a sequence
  std::size_t row_stride = 0;   // from place to place
  std::vector<std::byte> own;   // memory of the tokens, unless they are external:
  std::shared_ptr<void> elsewhere;

  std::vector<RowProvenance> provenance;  // one per sequence
  // 1 where a token is to be predicted, else 0, in the order of places and tokens; empty unless the recipe has
  // loss_mask.
  std::vector<std::uint8_t> loss_mask;
  // Symbols that programs wrote for this segment, including dropped rows and trials.
  std::uint64_t generated_symbols = 0;
};

}  // namespace iterand
