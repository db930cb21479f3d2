#include "iterate/segment_writer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "iterate/recipe.h"

namespace iterand {
namespace {

std::uint64_t HashRow(const Symbol* row, int length) {
  std::uint64_t hash = 0x243F6A8885A308D3U;
  for (int t = 0; t < length; ++t) hash = (hash ^ row[t]) * 0x9E3779B97F4A7C15U;
  return hash ^ hash >> 32;
}

}  // namespace

SegmentWriter::SegmentWriter(const v1::Recipe& resolved)
    : relabel_(resolved.relabel()),
      distinct_(resolved.distinct()),
      banded_(resolved.has_band()),
      dtype_(RecipeDtype(resolved)),
      length_(static_cast<int>(resolved.length())),
      sequences_(static_cast<int>(resolved.segment_sequences())),
      program_rng_(0, 0) {
  const auto alphabet = static_cast<int>(resolved.alphabet_size());
  if (banded_) {
    meter_ = std::make_unique<ComplexityMeter>(alphabet, length_);
    const auto plain = static_cast<double>(meter_->plain());
    band_low_ = static_cast<std::uint64_t>(std::ceil(resolved.band().low() * plain));
    band_high_ = static_cast<std::uint64_t>(resolved.band().high() * plain);
  }
  if (relabel_ != v1::Recipe::RELABEL_NONE) {
    injection_ = std::make_unique<Injection>(alphabet, static_cast<std::uint64_t>(resolved.vocab_size()));
  }
  order_.resize(static_cast<std::size_t>(sequences_));
  if (distinct_) {
    table_.resize(std::bit_ceil(2 * static_cast<std::size_t>(sequences_)));
    seen_.reserve(static_cast<std::size_t>(sequences_) * static_cast<std::size_t>(length_));
  }
}

void SegmentWriter::Begin(const RandomKey& key, bool shuffle, Segment& out) {
  seed_ = key.seed;
  const auto sequences = static_cast<std::size_t>(sequences_);
  out_ = &out;
  out.tokens.resize(sequences * static_cast<std::size_t>(length_) * DtypeBytes(dtype_));
  out.provenance.resize(sequences);
  count_ = 0;
  program_drawn_ = false;
  std::iota(order_.begin(), order_.end(), 0U);
  if (shuffle) {
    Rng rng = MakeRng(key, Purpose::kOrder);
    Shuffle<std::uint32_t>(rng, order_);
  }
  seen_.clear();
  seen_count_ = 0;
  std::fill(table_.begin(), table_.end(), 0U);
}

bool SegmentWriter::IsNew(const Symbol* row) {
  const std::size_t mask = table_.size() - 1;
  const auto length = static_cast<std::size_t>(length_);
  std::size_t slot = HashRow(row, length_) & mask;
  for (; table_[slot] != 0; slot = (slot + 1) & mask) {
    if (std::equal(row, row + length, seen_.data() + (table_[slot] - 1) * length)) return false;
  }
  seen_.insert(seen_.end(), row, row + length);
  table_[slot] = ++seen_count_;
  return true;
}

bool SegmentWriter::Accept(const Symbol* row) {
  if (banded_) {
    const std::uint64_t bits = meter_->Measure(row);
    if (bits < band_low_ || bits > band_high_) return false;
  }
  return !distinct_ || IsNew(row);
}

template <typename Token>
void SegmentWriter::WriteRow(const Symbol* row, Rng& rng, Token* out) {
  const int length = length_;  // a copy: bytes written to `out` could be the member's
  if (injection_) {
    for (int t = 0; t < length; ++t) out[t] = static_cast<Token>(injection_->Map(row[t], rng));
  } else {
    for (int t = 0; t < length; ++t) out[t] = static_cast<Token>(row[t]);
  }
}

void SegmentWriter::Write(const Symbol* row, const RowProvenance& provenance) {
  const RandomKey key{.seed = seed_, .lane = provenance.lane, .segment = provenance.segment, .round = provenance.round};
  Rng sequence_rng(0, 0);
  Rng* rng = &sequence_rng;
  if (relabel_ == v1::Recipe::RELABEL_SEQUENCE) {
    injection_->Reset();
    sequence_rng = MakeRng(key, Purpose::kRelabel, provenance.row);
  } else if (relabel_ == v1::Recipe::RELABEL_PROGRAM) {
    if (!program_drawn_ || program_round_ != provenance.round) {
      injection_->Reset();
      program_rng_ = MakeRng(key, Purpose::kRelabel);
      program_round_ = provenance.round;
      program_drawn_ = true;
    }
    rng = &program_rng_;
  }
  const std::size_t place = order_[static_cast<std::size_t>(count_)];
  std::byte* out = out_->tokens.data() + place * static_cast<std::size_t>(length_) * DtypeBytes(dtype_);
  switch (dtype_) {
    case Dtype::kUint8:
      WriteRow(row, *rng, reinterpret_cast<std::uint8_t*>(out));
      break;
    case Dtype::kUint16:
      WriteRow(row, *rng, reinterpret_cast<std::uint16_t*>(out));
      break;
    case Dtype::kUint32:
      WriteRow(row, *rng, reinterpret_cast<std::uint32_t*>(out));
      break;
  }
  out_->provenance[place] = provenance;
  ++count_;
}

}  // namespace iterand
