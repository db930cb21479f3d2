#include "server/batch_builder.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpc/slice.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "iterate/plan.h"
#include "server/answers/describe.h"

namespace iterand {
namespace {

using google::protobuf::io::CodedOutputStream;

// Tag of v1.Batch.tokens: field 15, length-delimited.
constexpr std::uint8_t kTokensTag = (v1::Batch::kTokensFieldNumber << 3) | 2;

// From this many contiguous bytes on, a reference costs less than a copy.
constexpr std::size_t kReferenceBytes = 4 << 10;

// Memory that a builder keeps for further messages: one being filled, one ready, one being sent. Of small ones it keeps
// more, since gRPC sends many at a time. In bytes, and as a number of buffers that are kept whatever their size.
constexpr std::size_t kFreeBytes = 1 << 20;
constexpr std::size_t kFreeBuffers = 3;

// Upper bound of the fields before provenance: four varints of at most 10 + 10 + 5 + 5 bytes, the dtype, 32 bytes of
// fingerprint, their tags, and the tags and lengths of parts, mask and tokens.
constexpr std::size_t kHeaderBytes = 96;

// Likewise of one provenance entry without the names of family and part: 5 + 10 + 10 + 5 + 5 bytes, eight tags, and
// three lengths of two bytes.
constexpr std::size_t kProvenanceBytes = 52;

constexpr std::size_t kCacheLine = 64;

// What is kept while the segment's tokens are referenced: its own memory, or that of all lanes of a stripe.
const void* Memory(const Segment& segment) {
  return segment.elsewhere ? segment.elsewhere.get() : static_cast<const void*>(&segment);
}

void Prefetch(const std::byte* data, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += kCacheLine) __builtin_prefetch(data + i);
}

}  // namespace

// Memory for rows that are copied. Shared by the builder and by the slices in use.
class BatchBuilder::BufferPool : public std::enable_shared_from_this<BatchBuilder::BufferPool> {
 public:
  // A slice of `size` bytes, whose memory comes back when its last reference is gone.
  grpc_slice NewSlice(std::size_t size) {
    auto lease = std::make_unique<Lease>();
    lease->pool = shared_from_this();
    {
      std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        lease->buffer = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (lease->buffer.capacity < size) {
      lease->buffer.data = std::make_unique_for_overwrite<std::uint8_t[]>(size);
      lease->buffer.capacity = size;
    }
    std::uint8_t* data = lease->buffer.data.get();
    return grpc_slice_new_with_user_data(data, size, &Return, lease.release());
  }

 private:
  struct Buffer {
    std::unique_ptr<std::uint8_t[]> data;
    std::size_t capacity = 0;
  };
  struct Lease {
    std::shared_ptr<BufferPool> pool;
    Buffer buffer;
  };

  static void Return(void* user_data) {
    const std::unique_ptr<Lease> lease(static_cast<Lease*>(user_data));
    std::lock_guard lock(lease->pool->mutex_);
    std::vector<Buffer>& free = lease->pool->free_;
    if (free.size() < kFreeBuffers || (free.size() + 1) * lease->buffer.capacity <= kFreeBytes) {
      free.push_back(std::move(lease->buffer));
    }
  }

  std::mutex mutex_;
  std::vector<Buffer> free_;
};

BatchBuilder::BatchBuilder(const Stream& stream, bool provenance, std::vector<std::string> part_names)
    : stream_(stream),
      with_provenance_(provenance),
      part_names_(std::move(part_names)),
      row_bytes_(stream.sequence_bytes()),
      mask_bytes_(stream.has_loss_mask() ? static_cast<std::size_t>(stream.length()) : 0),
      part_bytes_(stream.plan().mixture() != nullptr ? 1 : 0),
      buffers_(std::make_shared<BufferPool>()),
      copied_(grpc_empty_slice()) {
  if (part_names_.empty()) part_names_ = stream.part_names();
  if (with_provenance_) {
    std::size_t longest = 0;
    for (int part = 0; part < stream.plan().parts(); ++part) {
      const FamilyMix& mix = stream.plan().part(part).mix();
      for (int i = 0; i < mix.size(); ++i) longest = std::max(longest, mix.name(i).size());
    }
    std::size_t longest_part = 0;
    for (const std::string& name : part_names_) longest_part = std::max(longest_part, name.size());
    provenance_bytes_ = kProvenanceBytes + longest + longest_part;
  }
}

BatchBuilder::~BatchBuilder() { grpc_slice_unref(copied_); }

std::size_t BatchBuilder::MessageBytes(std::uint64_t rows) const {
  return kHeaderBytes + rows * (row_bytes_ + mask_bytes_ + part_bytes_ + provenance_bytes_);
}

std::string BatchBuilder::RowParts() const {
  std::string parts = absl::StrCat(row_bytes_, " bytes of tokens");
  if (mask_bytes_ > 0) absl::StrAppend(&parts, ", ", mask_bytes_, " of its mask");
  if (part_bytes_ > 0) absl::StrAppend(&parts, ", ", part_bytes_, " of its part");
  if (provenance_bytes_ > 0) absl::StrAppend(&parts, ", up to ", provenance_bytes_, " of its provenance");
  return parts;
}

std::uint64_t BatchBuilder::MaxRows(std::size_t message_bytes) const {
  const std::size_t row = row_bytes_ + mask_bytes_ + part_bytes_ + provenance_bytes_;
  return message_bytes < kHeaderBytes ? 0 : (message_bytes - kHeaderBytes) / row;
}

void BatchBuilder::Begin(std::uint64_t first_index, std::uint64_t stride, int rows) {
  header_.Clear();
  header_.set_first_index(first_index);
  header_.set_stride(stride);
  header_.set_rows(static_cast<std::uint32_t>(rows));
  header_.set_length(static_cast<std::uint32_t>(stream_.length()));
  header_.set_dtype(ToProto(stream_.dtype()));
  const Fingerprint& fingerprint = stream_.fingerprint();
  header_.set_fingerprint(fingerprint.data(), fingerprint.size());
  rows_ = rows;
  added_ = 0;
  token_bytes_left_ = static_cast<std::size_t>(rows) * row_bytes_;
}

void BatchBuilder::Add(const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
  const RowProvenance& from = segment->provenance[offset];
  if (part_bytes_ > 0) header_.mutable_parts()->push_back(static_cast<char>(from.part));
  if (with_provenance_) FillProvenance(stream_, from, part_names_, *header_.add_provenance());
  if (mask_bytes_ > 0) {
    header_.mutable_loss_mask()->append(reinterpret_cast<const char*>(segment->loss_mask.data() + offset * mask_bytes_),
                                        mask_bytes_);
  }
  const std::byte* data = segment->row(offset);
  Run* const last = end_run_ > first_run_ ? &runs_[(end_run_ - 1) % kRunsAhead] : nullptr;
  if (last != nullptr && data == last->data + last->bytes && Memory(*segment) == Memory(*last->segment)) {
    last->bytes += row_bytes_;
  } else {
    if (row_bytes_ < kReferenceBytes) Prefetch(data, row_bytes_);
    if (end_run_ - first_run_ == kRunsAhead) Write(runs_[first_run_++ % kRunsAhead]);
    runs_[end_run_++ % kRunsAhead] = {segment, data, row_bytes_};
  }
  ++added_;
}

bool BatchBuilder::MayKeep(const Segment& segment) {
  const void* memory = Memory(segment);
  if (kept_.contains(memory)) return true;
  const auto sequences = static_cast<std::size_t>(stream_.segment_sequences());
  const std::size_t lane_bytes = sequences * static_cast<std::size_t>(stream_.lanes()) * row_bytes_;
  const std::size_t most = 2 * (static_cast<std::size_t>(rows_) * row_bytes_ + lane_bytes);
  const std::size_t bytes = sequences * segment.row_stride;
  if (kept_bytes_ + bytes > most) return false;
  kept_.insert(memory);
  kept_bytes_ += bytes;
  return true;
}

void BatchBuilder::Write(Run& run) {
  const auto [data, bytes] = std::pair(run.data, run.bytes);
  if (bytes >= kReferenceBytes && MayKeep(*run.segment)) {
    FlushCopied();
    auto* keep = new std::shared_ptr<const Segment>(std::move(run.segment));
    slices_.emplace_back(
        const_cast<std::byte*>(data), bytes,
        [](void* segment) { delete static_cast<std::shared_ptr<const Segment>*>(segment); }, keep);
  } else {
    if (copied_end_ + bytes > copied_capacity_) {
      FlushCopied();
      grpc_slice_unref(copied_);
      copied_ = buffers_->NewSlice(token_bytes_left_);
      copied_capacity_ = token_bytes_left_;
      copied_begin_ = copied_end_ = 0;
    }
    std::memcpy(GRPC_SLICE_START_PTR(copied_) + copied_end_, data, bytes);
    copied_end_ += bytes;
  }
  token_bytes_left_ -= bytes;
  run.segment = nullptr;
}

void BatchBuilder::FlushCopied() {
  if (copied_begin_ == copied_end_) return;
  slices_.emplace_back(grpc_slice_sub(copied_, copied_begin_, copied_end_), grpc::Slice::STEAL_REF);
  copied_begin_ = copied_end_;
}

grpc::ByteBuffer BatchBuilder::Finish() {
  while (first_run_ < end_run_) Write(runs_[first_run_++ % kRunsAhead]);
  FlushCopied();
  grpc_slice_unref(copied_);
  copied_ = grpc_empty_slice();
  copied_capacity_ = copied_begin_ = copied_end_ = 0;

  const std::size_t token_bytes = static_cast<std::size_t>(rows_) * row_bytes_;
  std::string header;
  header_.SerializeToString(&header);
  std::uint8_t tail[16];
  tail[0] = kTokensTag;
  const std::uint8_t* end = CodedOutputStream::WriteVarint32ToArray(static_cast<std::uint32_t>(token_bytes), tail + 1);
  header.append(reinterpret_cast<const char*>(tail), static_cast<std::size_t>(end - tail));
  slices_.insert(slices_.begin(), grpc::Slice(header));
  grpc::ByteBuffer message(slices_.data(), slices_.size());
  slices_.clear();
  kept_.clear();
  kept_bytes_ = 0;
  rows_ = added_ = 0;
  return message;
}

void FillProvenance(const Stream& stream, const RowProvenance& from, const std::vector<std::string>& part_names,
                    v1::Provenance& to) {
  to.set_lane(from.lane);
  to.set_segment(from.segment);
  to.set_round(from.round);
  to.set_row(from.row);
  to.set_family(stream.family_name(from));
  to.set_depth(from.depth);
  if (!part_names.empty()) to.set_part(part_names[from.part]);
}

absl::Status CheckRows(const std::string& field, std::uint64_t rows, const BatchBuilder& sizes,
                       std::size_t max_batch_bytes) {
  const std::uint64_t max_rows = sizes.MaxRows(max_batch_bytes);
  if (max_rows == 0) {
    const std::string message = absl::StrCat(
        "a batch of one sequence of this recipe takes up to ", sizes.MessageBytes(1), " bytes, ", sizes.RowParts(),
        " and a header; this server sends at most ", max_batch_bytes, " bytes per batch");
    return WithReason(v1::STREAM_TOO_LARGE, absl::ResourceExhaustedError(message),
                      {{"limit", absl::StrCat(max_batch_bytes)}});
  }
  if (rows == 0) return InvalidField(field, absl::StrCat(field, " is 0; it must be 1 to ", max_rows));
  if (rows > max_rows) {
    return InvalidField(
        field, absl::StrCat(field, " is ", rows, ": of sequences of ", sizes.RowParts(), ", at most ", max_rows,
                            " fit a batch of ", max_batch_bytes, " bytes, the limit of this server"));
  }
  return absl::OkStatus();
}

}  // namespace iterand
