#include "server/read_call.h"

#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "iterate/plan.h"
#include "server/answers/describe.h"
#include "server/batch_builder.h"
#include "server/call_errors.h"
#include "server/messages.h"

namespace iterand {
namespace {

// Rows at equal distances. They come in order, so their message refers to the segments' memory.
class Progression final : public RequestedRows {
 public:
  Progression(const Stream& stream, std::uint64_t first, std::uint64_t stride, std::uint64_t rows, bool provenance,
              std::vector<std::string> part_names)
      : builder_(stream, provenance, std::move(part_names)) {
    builder_.Begin(first, stride, static_cast<int>(rows));
  }
  void set_reader(std::unique_ptr<SequenceReader> reader) { reader_ = std::move(reader); }

  absl::StatusOr<bool> Take() override {
    const absl::StatusOr<int> taken = reader_->Take(
        builder_.missing(),
        [this](const std::shared_ptr<const Segment>& segment, std::uint32_t offset) { builder_.Add(segment, offset); });
    if (!taken.ok()) return taken.status();
    return builder_.missing() == 0;
  }
  grpc::ByteBuffer Finish() override { return builder_.Finish(); }
  void Close() override { reader_->Close(); }

 private:
  BatchBuilder builder_;
  std::unique_ptr<SequenceReader> reader_;
};

// Rows of any indices. They come segment by segment and are copied to their places, so that no segment stays in memory
// until the last row has come.
class IndexedRows final : public RequestedRows {
 public:
  IndexedRows(const Stream& stream, std::span<const std::uint64_t> indices, bool provenance,
              const std::vector<std::string>& part_names)
      : stream_(stream),
        part_names_(part_names.empty() ? stream.part_names() : part_names),
        row_bytes_(stream.sequence_bytes()),
        mask_bytes_(stream.has_loss_mask() ? static_cast<std::size_t>(stream.length()) : 0) {
    const std::size_t rows = indices.size();
    batch_.set_first_index(indices.front());
    batch_.set_rows(static_cast<std::uint32_t>(rows));
    batch_.set_length(static_cast<std::uint32_t>(stream.length()));
    batch_.set_dtype(ToProto(stream.dtype()));
    batch_.set_fingerprint(stream.fingerprint().data(), stream.fingerprint().size());
    batch_.mutable_tokens()->resize(rows * row_bytes_);
    batch_.mutable_loss_mask()->resize(rows * mask_bytes_);
    if (stream.plan().mixture() != nullptr) batch_.mutable_parts()->resize(rows);
    for (std::size_t row = 0; provenance && row < rows; ++row) batch_.add_provenance();
  }
  void set_reader(std::unique_ptr<IndexReader> reader) { reader_ = std::move(reader); }

  absl::StatusOr<bool> Take() override {
    return reader_->Take([this](std::size_t row, const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
      std::memcpy(batch_.mutable_tokens()->data() + row * row_bytes_, segment->row(offset), row_bytes_);
      if (mask_bytes_ > 0) {
        std::memcpy(batch_.mutable_loss_mask()->data() + row * mask_bytes_,
                    segment->loss_mask.data() + offset * mask_bytes_, mask_bytes_);
      }
      const RowProvenance& from = segment->provenance[offset];
      if (!batch_.parts().empty()) (*batch_.mutable_parts())[row] = static_cast<char>(from.part);
      if (batch_.provenance_size() > 0) {
        FillProvenance(stream_, from, part_names_, *batch_.mutable_provenance(static_cast<int>(row)));
      }
    });
  }
  grpc::ByteBuffer Finish() override { return ToBuffer(batch_); }
  void Close() override { reader_->Close(); }

 private:
  const Stream& stream_;
  const std::vector<std::string> part_names_;
  const std::size_t row_bytes_;
  const std::size_t mask_bytes_;  // per row
  v1::Batch batch_;
  std::unique_ptr<IndexReader> reader_;
};

}  // namespace

std::function<void()> ReadCall::Notifier() {
  return [weak = weak_from_this()] {
    if (const std::shared_ptr<ReadCall> alive = weak.lock()) alive->Advance();
  };
}

absl::Status ReadCall::Read(Engine& engine, std::uint64_t first, std::uint64_t stride, bool provenance,
                            std::vector<std::string> part_names) {
  auto rows = std::make_unique<Progression>(open_->stream(), first, stride, number_, provenance, std::move(part_names));
  absl::StatusOr<std::unique_ptr<SequenceReader>> reader =
      engine.NewReader(open_, {.first = first, .stride = stride, .count = number_}, Notifier());
  if (!reader.ok()) return reader.status();
  rows->set_reader(*std::move(reader));
  const std::lock_guard lock(mutex_);
  rows_ = std::move(rows);
  return absl::OkStatus();
}

absl::Status ReadCall::ReadIndices(Engine& engine, std::span<const std::uint64_t> indices, bool provenance,
                                   const std::vector<std::string>& part_names) {
  auto rows = std::make_unique<IndexedRows>(open_->stream(), indices, provenance, part_names);
  absl::StatusOr<std::unique_ptr<IndexReader>> reader = engine.NewIndexReader(open_, indices, Notifier());
  if (!reader.ok()) return reader.status();
  rows->set_reader(*std::move(reader));
  const std::lock_guard lock(mutex_);
  rows_ = std::move(rows);
  return absl::OkStatus();
}

void ReadCall::Advance() {
  absl::Status end;
  grpc::ByteBuffer batch;
  {
    std::lock_guard lock(mutex_);
    if (!rows_ || finished_) return;
    if (cancelled_) {
      end = CancelledByClientError();
    } else {
      const absl::StatusOr<bool> complete = rows_->Take();
      if (!complete.ok()) {
        end = complete.status();
      } else if (!*complete) {
        return;
      } else {
        batch = rows_->Finish();
        CallCounters& counters = calls_->counters();
        counters.sequences += number_;
        counters.tokens += number_ * static_cast<std::uint64_t>(open_->stream().length());
        counters.batches += 1;
        counters.batch_bytes += batch.Length();
      }
    }
    finished_ = true;
    rows_->Close();
  }
  const std::string of = ToHex(open_->stream().fingerprint());
  if (end.ok()) {
    call_->EndWith(batch, of);
  } else {
    call_->End(end, of);
  }
}

void ReadCall::Cancel() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (rows_) rows_->Close();
  }
  Advance();
}

}  // namespace iterand
