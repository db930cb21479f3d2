#include "iterate/segment_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace iterand {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kPrefetchBytes = 1024;

// Folds the product of two words (Vaidya, "wyhash"): all bits of the result depend on all bits of both words.
std::uint64_t Fold(std::uint64_t a, std::uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Not part of the stream's definition: rows with equal hashes are compared.
std::uint64_t HashRow(const Symbol* row, std::size_t length) {
  constexpr std::size_t kSymbols = 2 * sizeof(std::uint64_t) / sizeof(Symbol);
  std::uint64_t hash = 0x243F6A8885A308D3U;
  std::size_t t = 0;
  for (; t + kSymbols <= length; t += kSymbols) {
    std::uint64_t words[2];
    std::memcpy(words, row + t, sizeof(words));
    hash = Fold(words[0] ^ 0x9E3779B97F4A7C15U, words[1] ^ hash);
  }
  for (; t < length; ++t) hash = Fold(row[t] ^ 0x9E3779B97F4A7C15U, hash);
  return hash;
}

}  // namespace

SegmentWriter::SegmentWriter(const StreamPlan& plan)
    : layout_(plan.layout()),
      relabel_(plan.recipe().relabel()),
      distinct_(plan.recipe().distinct()),
      masked_(plan.recipe().loss_mask()),
      dtype_(plan.dtype()),
      sequences_(static_cast<int>(plan.index_map().segment_sequences())) {
  if (plan.recipe().has_band()) {
    const v1::Band& band = plan.recipe().band();
    meter_ = std::make_unique<ComplexityMeter>(plan.alphabet(), layout_.symbols());
    band_.emplace(band.low(), band.high(), meter_->plain());
  }
  if (relabel_ != v1::Recipe::RELABEL_NONE) {
    injection_ = std::make_unique<Injection>(static_cast<int>(layout_.content_values()), layout_.content_vocabulary());
  }
  order_.resize(static_cast<std::size_t>(sequences_));
  if (distinct_) {
    table_.resize(std::bit_ceil(2 * static_cast<std::size_t>(sequences_)));
    seen_.reserve(static_cast<std::size_t>(sequences_) * static_cast<std::size_t>(layout_.symbols()));
  }
}

void SegmentWriter::Begin(const RandomKey& key, bool shuffle, Segment& out) {
  seed_ = key.seed;
  const auto sequences = static_cast<std::size_t>(sequences_);
  out_ = &out;
  const auto length = static_cast<std::size_t>(layout_.length());
  out.Resize(sequences, length * DtypeBytes(dtype_), masked_ ? length : 0);
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
  const auto length = static_cast<std::size_t>(layout_.symbols());
  std::size_t slot = HashRow(row, length) & mask;
  for (; table_[slot] != 0; slot = (slot + 1) & mask) {
    if (std::equal(row, row + length, seen_.data() + (table_[slot] - 1) * length)) return false;
  }
  seen_.insert(seen_.end(), row, row + length);
  table_[slot] = ++seen_count_;
  return true;
}

bool SegmentWriter::Accept(const Symbol* row) {
  if (band_ && !band_->Contains(meter_->Measure(row))) return false;
  return !distinct_ || IsNew(row);
}

// The rows of a stripe are far apart, so writing one would wait for memory. Prefetches while the next row is made.
void SegmentWriter::PrefetchRow(const std::byte* row) const {
  for (std::size_t i = 0; i < std::min(out_->row_bytes, kPrefetchBytes); i += kCacheLine) {
    __builtin_prefetch(row + i, /*rw=*/1);
  }
}

template <typename Token>
void SegmentWriter::WriteRow(const Symbol* row, Token* out) {
  if (!layout_.plain()) {
    layout_.Walk(
        [&](int at, int i) {
          const std::uint32_t packed = layout_.Packed(row, i);
          if (injection_) {
            const auto symbol = static_cast<Symbol>(packed);
            injection_->Map({&symbol, 1}, out + at);
          } else {
            out[at] = static_cast<Token>(packed);
          }
        },
        [&](int at, std::uint32_t token) { out[at] = static_cast<Token>(token); });
  } else if (injection_) {
    injection_->Map({row, static_cast<std::size_t>(layout_.length())}, out);
  } else {
    std::copy_n(row, layout_.length(), out);
  }
}

void SegmentWriter::WriteMask(const std::uint8_t* mask, std::uint8_t* out) const {
  layout_.Walk([&](int at, int i) { out[at] = layout_.PackedMask(mask, i) ? 1 : 0; },
               [&](int at, std::uint32_t /*token*/) { out[at] = at > 0 ? out[at - 1] : std::uint8_t{0}; });
}

void SegmentWriter::Write(const Symbol* row, const std::uint8_t* mask, const RowProvenance& provenance) {
  const RandomKey key{.seed = seed_, .lane = provenance.lane, .segment = provenance.segment, .round = provenance.round};
  if (relabel_ == v1::Recipe::RELABEL_SEQUENCE) {
    injection_->Reset(MakeRng(key, Purpose::kRelabel, provenance.row));
  } else if (relabel_ == v1::Recipe::RELABEL_PROGRAM && (!program_drawn_ || program_round_ != provenance.round)) {
    injection_->Reset(MakeRng(key, Purpose::kRelabel));
    program_round_ = provenance.round;
    program_drawn_ = true;
  }
  const std::size_t place = order_[static_cast<std::size_t>(count_)];
  std::byte* out = out_->row(place);
  switch (dtype_) {
    case Dtype::kUint8:
      WriteRow(row, reinterpret_cast<std::uint8_t*>(out));
      break;
    case Dtype::kUint16:
      WriteRow(row, reinterpret_cast<std::uint16_t*>(out));
      break;
    case Dtype::kUint32:
      WriteRow(row, reinterpret_cast<std::uint32_t*>(out));
      break;
  }
  if (masked_) WriteMask(mask, out_->loss_mask.data() + place * static_cast<std::size_t>(layout_.length()));
  out_->provenance[place] = provenance;
  ++count_;
  if (count_ < sequences_) PrefetchRow(out_->row(order_[static_cast<std::size_t>(count_)]));
}

}  // namespace iterand
