#include "clients/python/native/embedded.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterate/plan.h"
#include "randnet/core_time_limit.h"
#include "randnet/run_control.h"
#include "server/answers/describe.h"
#include "server/answers/stream_spec.h"
#include "server/engine/generation_error.h"

namespace iterand::python {
namespace {

// Of memory that rows are copied to.
constexpr std::align_val_t kCacheLine{64};

std::shared_ptr<void> NewMemory(std::size_t bytes) {
  return {::operator new(bytes, kCacheLine), [](void* memory) { ::operator delete(memory, kCacheLine); }};
}

// Leaves an object of the parent process as it is.
template <typename T>
void Abandon(std::shared_ptr<T>& object) {
  if (object) static_cast<void>(new std::shared_ptr<T>(std::move(object)));
  object = nullptr;
}

absl::Status Ending() { return absl::CancelledError("this process is ending"); }

}  // namespace

// ---- EmbeddedStream ------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<EmbeddedStream>> EmbeddedStream::Open(const v1::StreamSpec& spec) {
  const Runtime::Use use;
  absl::StatusOr<v1::Recipe> recipe = NamedRecipe(spec);
  if (!recipe.ok()) return recipe.status();
  std::shared_ptr<EmbeddedStream> stream(new EmbeddedStream());
  stream->recipe_ = *std::move(recipe);
  stream->seed_ = spec.seed();
  if (absl::Status status = stream->Attach(); !status.ok()) return status;
  const Stream& open = stream->shared_->stream();
  stream->fingerprint_ = open.fingerprint();
  stream->dtype_ = open.dtype();
  stream->length_ = open.length();
  stream->lanes_ = open.lanes();
  stream->has_loss_mask_ = open.has_loss_mask();
  for (int part = 0; part < open.plan().parts(); ++part) {
    const FamilyMix& mix = open.plan().part(part).mix();
    std::vector<std::string>& names = stream->families_.emplace_back();
    for (int family = 0; family < mix.size(); ++family) names.push_back(mix.name(family));
  }
  stream->part_names_ = AskedPartNames(open, stream->recipe_);
  absl::Status status = CheckFingerprint(spec, open);
  if (!status.ok()) {
    stream->Detach();
    return status;
  }
  Runtime::Get().Add(stream.get());
  stream->added_ = true;
  return stream;
}

EmbeddedStream::~EmbeddedStream() {
  if (!added_) return;
  const Runtime::Use use;
  Runtime::Get().Remove(this);
  Detach();
}

void EmbeddedStream::End() { Detach(); }

const std::string& EmbeddedStream::part_name(const RowProvenance& row) const {
  static const std::string kNone;
  return is_mixture() ? part_names_[row.part] : kNone;
}

absl::Status EmbeddedStream::Attach() {
  Runtime& runtime = Runtime::Get();
  if (runtime.stopped()) return Ending();
  const std::lock_guard lock(mutex_);
  if (engine_ != nullptr && forks_ == runtime.forks()) return absl::OkStatus();
  Detach();
  absl::StatusOr<std::shared_ptr<Engine>> engine = runtime.engine();
  if (!engine.ok()) return engine.status();
  absl::StatusOr<std::shared_ptr<SharedStream>> shared = (*engine)->Open(recipe_, seed_);
  if (!shared.ok()) return shared.status();
  forks_ = runtime.forks();
  engine_ = *std::move(engine);
  shared_ = *std::move(shared);
  return absl::OkStatus();
}

void EmbeddedStream::Detach() {
  if (forks_ != Runtime::Get().forks()) {
    Abandon(shared_);
    Abandon(engine_);
  }
  shared_ = nullptr;
  engine_ = nullptr;
}

absl::StatusOr<Explanation> EmbeddedStream::Explain(std::uint64_t index, std::optional<double> most_seconds) {
  const Runtime::Use use;
  if (absl::Status status = Attach(); !status.ok()) return status;
  RunControl control;
  std::optional<CoreTimeLimit> limit;
  if (most_seconds) limit.emplace(&control, *most_seconds);
  absl::StatusOr<Explanation> explanation = shared_->stream().Explain(index, {.control = &control});
  if (!explanation.ok()) return WithGenerationReason(explanation.status());
  return explanation;
}

absl::StatusOr<v1::DescribeResponse> EmbeddedStream::Describe(std::uint64_t at) {
  const Runtime::Use use;
  if (absl::Status status = Attach(); !status.ok()) return status;
  v1::DescribeResponse response;
  DescribeServer(response);
  DescribeStream(shared_->stream(), recipe_, at, *response.mutable_stream());
  return response;
}

// ---- EmbeddedReader ------------------------------------------------------------------------------------------------

EmbeddedReader::EmbeddedReader(std::shared_ptr<EmbeddedStream> stream, const Options& options)
    : stream_(std::move(stream)), options_(options), next_(options.first), remaining_(options.count) {}

absl::StatusOr<std::unique_ptr<EmbeddedReader>> EmbeddedReader::Open(std::shared_ptr<EmbeddedStream> stream,
                                                                     const Options& options) {
  std::unique_ptr<EmbeddedReader> reader(new EmbeddedReader(std::move(stream), options));
  const Runtime::Use use;
  if (absl::Status status = reader->Attach(); !status.ok()) return status;
  Runtime::Get().Add(reader.get());
  reader->added_ = true;
  return reader;
}

EmbeddedReader::~EmbeddedReader() {
  if (!added_) return;
  const Runtime::Use use;
  Runtime::Get().Remove(this);
  Detach();
}

void EmbeddedReader::End() {
  Detach();
  signal_->Notify();
}

absl::Status EmbeddedReader::Attach() {
  if (absl::Status status = stream_->Attach(); !status.ok()) return status;
  if (reader_ != nullptr && forks_ == Runtime::Get().forks()) return absl::OkStatus();
  Detach();
  signal_ = std::make_shared<Signal>();
  absl::StatusOr<std::unique_ptr<SequenceReader>> reader =
      stream_->engine_->NewReader(stream_->shared_,
                                  {.first = next_,
                                   .stride = options_.stride,
                                   .count = remaining_,
                                   .first_batch_size = options_.batch_size,
                                   .exclusive = true},
                                  [signal = signal_] { signal->Notify(); });
  if (!reader.ok()) return reader.status();
  forks_ = Runtime::Get().forks();
  reader_ = *std::move(reader);
  return absl::OkStatus();
}

void EmbeddedReader::Detach() {
  if (forks_ != Runtime::Get().forks()) {
    static_cast<void>(reader_.release());
    Abandon(batch_.owner);
    Abandon(signal_);
    signal_ = std::make_shared<Signal>();
  }
  reader_ = nullptr;
  batch_ = {};
  wanted_ = 0;
  own_memory_ = false;
}

void EmbeddedReader::Close() {
  if (closed_.exchange(true)) return;
  signal_->Notify();
}

void EmbeddedReader::Release() {
  const Runtime::Use use;
  Detach();
}

absl::StatusOr<std::optional<Rows>> EmbeddedReader::Poll() {
  const Runtime::Use use;
  if (closed_ || remaining_ == 0) {
    Detach();
    return Rows();
  }
  if (absl::Status status = Attach(); !status.ok()) return status;
  if (wanted_ == 0) wanted_ = static_cast<std::size_t>(std::min<std::uint64_t>(options_.batch_size, remaining_));
  const std::size_t missing = wanted_ - batch_.rows;
  const absl::StatusOr<int> taken = reader_->Take(
      static_cast<int>(missing),
      [this](const std::shared_ptr<const Segment>& segment, std::uint32_t offset) { AddRow(segment, offset); });
  if (!taken.ok()) {
    absl::Status status = taken.status();
    Detach();
    return status;
  }
  if (batch_.rows < wanted_) return std::nullopt;
  return Finish();
}

void EmbeddedReader::AddRow(const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
  const std::size_t row_bytes = stream_->sequence_bytes();
  const std::byte* const row = segment->row(offset);
  if (batch_.rows == 0) {
    // The reader is exclusive, so no other thread sees the segment.
    batch_.tokens = const_cast<std::byte*>(row);
    batch_.owner = segment->elsewhere;
    if (stream_->has_loss_mask()) {
      batch_.loss_mask = std::make_shared<std::vector<std::uint8_t>>();
      batch_.loss_mask->reserve(wanted_ * static_cast<std::size_t>(stream_->length()));
    }
    if (stream_->is_mixture()) {
      batch_.parts = std::make_shared<std::vector<std::uint8_t>>();
      batch_.parts->reserve(wanted_);
    }
    if (options_.provenance) batch_.provenance.reserve(wanted_);
  } else if (!own_memory_ && (segment->elsewhere != batch_.owner || row != batch_.tokens + batch_.rows * row_bytes)) {
    MoveToOwnMemory();
  }
  if (own_memory_) std::memcpy(batch_.tokens + batch_.rows * row_bytes, row, row_bytes);
  if (batch_.loss_mask) {
    const auto length = static_cast<std::size_t>(stream_->length());
    const auto first = segment->loss_mask.begin() + static_cast<std::ptrdiff_t>(offset * length);
    batch_.loss_mask->insert(batch_.loss_mask->end(), first, first + static_cast<std::ptrdiff_t>(length));
  }
  if (batch_.parts) batch_.parts->push_back(static_cast<std::uint8_t>(segment->provenance[offset].part));
  if (options_.provenance) batch_.provenance.push_back(segment->provenance[offset]);
  ++batch_.rows;
}

void EmbeddedReader::MoveToOwnMemory() {
  const std::size_t row_bytes = stream_->sequence_bytes();
  std::shared_ptr<void> memory = NewMemory(wanted_ * row_bytes);
  std::memcpy(memory.get(), batch_.tokens, batch_.rows * row_bytes);
  batch_.tokens = static_cast<std::byte*>(memory.get());
  batch_.owner = std::move(memory);
  own_memory_ = true;
}

Rows EmbeddedReader::Finish() {
  batch_.first_index = next_;
  next_ += batch_.rows * options_.stride;  // wraps only after the last row
  remaining_ -= batch_.rows;
  wanted_ = 0;
  own_memory_ = false;
  return std::exchange(batch_, {});
}

// ---- EmbeddedRead --------------------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<EmbeddedRead>> EmbeddedRead::Open(std::shared_ptr<EmbeddedStream> stream,
                                                                 std::span<const std::uint64_t> indices,
                                                                 bool provenance) {
  std::unique_ptr<EmbeddedRead> read(new EmbeddedRead());
  read->stream_ = std::move(stream);
  EmbeddedStream& of = *read->stream_;
  Rows& rows = read->rows_;
  rows.rows = indices.size();
  rows.owner = NewMemory(std::max<std::size_t>(1, rows.rows * of.sequence_bytes()));
  rows.tokens = static_cast<std::byte*>(rows.owner.get());
  if (of.has_loss_mask()) {
    rows.loss_mask = std::make_shared<std::vector<std::uint8_t>>(rows.rows * static_cast<std::size_t>(of.length()));
  }
  if (of.is_mixture()) rows.parts = std::make_shared<std::vector<std::uint8_t>>(rows.rows);
  if (provenance) rows.provenance.resize(rows.rows);
  const Runtime::Use use;
  if (absl::Status status = of.Attach(); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<IndexReader>> reader =
      of.engine_->NewIndexReader(of.shared_, indices, [signal = read->signal_] { signal->Notify(); });
  if (!reader.ok()) return reader.status();
  read->forks_ = Runtime::Get().forks();
  read->reader_ = *std::move(reader);
  Runtime::Get().Add(read.get());
  read->added_ = true;
  return read;
}

EmbeddedRead::~EmbeddedRead() {
  if (!added_) return;
  const Runtime::Use use;
  Runtime::Get().Remove(this);
  End();
}

void EmbeddedRead::End() {
  if (forks_ != Runtime::Get().forks()) {
    static_cast<void>(reader_.release());
    Abandon(signal_);
    signal_ = std::make_shared<Signal>();
  }
  reader_ = nullptr;
  signal_->Notify();
}

absl::StatusOr<std::optional<Rows>> EmbeddedRead::Poll() {
  const Runtime::Use use;
  if (reader_ == nullptr) return Ending();
  const std::size_t row_bytes = stream_->sequence_bytes();
  const auto length = static_cast<std::size_t>(stream_->length());
  const absl::StatusOr<bool> whole =
      reader_->Take([&](std::size_t row, const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
        std::memcpy(rows_.tokens + row * row_bytes, segment->row(offset), row_bytes);
        if (rows_.loss_mask)
          std::copy_n(segment->loss_mask.data() + offset * length, length, rows_.loss_mask->data() + row * length);
        if (rows_.parts) (*rows_.parts)[row] = static_cast<std::uint8_t>(segment->provenance[offset].part);
        if (!rows_.provenance.empty()) rows_.provenance[row] = segment->provenance[offset];
      });
  if (!whole.ok()) return whole.status();
  if (!*whole) return std::nullopt;
  return std::exchange(rows_, {});
}

}  // namespace iterand::python
