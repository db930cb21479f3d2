// Writes surviving rows into a segment: relabelled, in the segment's order, as served tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "iterate/complexity.h"
#include "iterate/layout.h"
#include "iterate/plan.h"
#include "iterate/relabel.h"
#include "iterate/segment.h"
#include "randnet/base/rng.h"
#include "randnet/block.h"

namespace iterand {

// One thread's writer, with the filters. The stages after a round, in order: band and distinct judge the rows as the
// program made them, as symbols before packing (equal rows look different once each has its own relabelling). Surviving
// rows are packed, relabelled and written between the marks (iterate/layout.h). Not thread-safe.
class SegmentWriter {
 public:
  explicit SegmentWriter(const StreamPlan& plan);

  int symbols() const { return layout_.symbols(); }  // of a row
  int sequences() const { return sequences_; }

  // Starts a segment: sizes `out`, which must stay until the segment is full. With `shuffle`, row p is written to the
  // p-th place of a keyed random order (kOrder), so that neighbours in a batch come from different programs.
  void Begin(const RandomKey& key, bool shuffle, Segment& out);

  bool full() const { return count_ == sequences_; }

  // Applies the filters to a row; false if it is dropped.
  bool Accept(const Symbol* row);

  // Packs, relabels and writes a row, and its mask (one byte per symbol) if the recipe has loss_mask. The rows of one
  // round must follow one another, for RELABEL_PROGRAM. The segment must not be full.
  void Write(const Symbol* row, const std::uint8_t* mask, const RowProvenance& provenance);

 private:
  template <typename Token>
  void WriteRow(const Symbol* row, Token* out);
  void WriteMask(const std::uint8_t* mask, std::uint8_t* out) const;
  void PrefetchRow(const std::byte* row) const;
  bool IsNew(const Symbol* row);

  SequenceLayout layout_;
  v1::Recipe::Relabel relabel_;
  bool distinct_;
  bool masked_;
  Dtype dtype_;
  int sequences_;
  std::unique_ptr<ComplexityMeter> meter_;  // if the recipe has a band
  std::optional<ComplexityBand> band_;
  std::unique_ptr<Injection> injection_;

  std::uint64_t seed_ = 0;
  Segment* out_ = nullptr;
  int count_ = 0;
  std::uint64_t program_round_ = 0;  // round of the present injection, RELABEL_PROGRAM
  bool program_drawn_ = false;
  std::vector<std::uint32_t> order_;
  // Rows accepted by `distinct`, as made, and an open-addressing table of their numbers + 1.
  std::vector<Symbol> seen_;
  std::vector<std::uint32_t> table_;
  std::uint32_t seen_count_ = 0;
};

}  // namespace iterand
