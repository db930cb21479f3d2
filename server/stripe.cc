#include "server/stripe.h"

#include <algorithm>
#include <new>
#include <utility>

namespace iterand {
namespace {

// Free memory that a stream keeps: as much as a feed has ahead by default.
constexpr std::size_t kRecycledBytes = 8 << 20;

constexpr std::align_val_t kCacheLine{64};

}  // namespace

SegmentPool::SegmentPool(const Stream& stream)
    : row_bytes_(stream.sequence_bytes()),
      segment_sequences_(static_cast<std::size_t>(stream.segment_sequences())),
      segment_bytes_(static_cast<std::size_t>(stream.Cost().segment_bytes) +
                     segment_sequences_ * sizeof(RowProvenance)) {}

void SegmentPool::Free::operator()(std::byte* memory) const { ::operator delete(memory, kCacheLine); }

std::shared_ptr<std::byte> SegmentPool::NewBuffer(std::size_t bytes) {
  Buffer buffer;
  {
    std::lock_guard lock(mutex_);
    const auto found =
        std::find_if(buffers_.rbegin(), buffers_.rend(), [bytes](const Buffer& free) { return free.bytes == bytes; });
    if (found != buffers_.rend()) {
      buffer = std::move(*found);
      buffers_.erase(std::next(found).base());
      buffer_bytes_ -= bytes;
    }
  }
  if (!buffer.memory) {
    buffer.memory.reset(static_cast<std::byte*>(::operator new(bytes, kCacheLine)));
    buffer.bytes = bytes;
  }
  return {buffer.memory.release(), [pool = shared_from_this(), bytes](std::byte* memory) {
            Buffer done;
            done.memory.reset(memory);
            done.bytes = bytes;
            pool->GiveBack(std::move(done));
          }};
}

std::shared_ptr<Segment> SegmentPool::NewSegment() {
  std::unique_ptr<Segment> segment;
  {
    std::lock_guard lock(mutex_);
    if (!segments_.empty()) {
      segment = std::move(segments_.back());
      segments_.pop_back();
    }
  }
  if (!segment) segment = std::make_unique<Segment>();
  return {segment.release(),
          [pool = shared_from_this()](Segment* done) { pool->GiveBack(std::unique_ptr<Segment>(done)); }};
}

void SegmentPool::KeepFree(bool keep) {
  std::vector<Buffer> buffers;  // freed after the lock is
  std::vector<std::unique_ptr<Segment>> segments;
  std::lock_guard lock(mutex_);
  keep_free_ = keep;
  if (keep) return;
  buffers.swap(buffers_);
  segments.swap(segments_);
  buffer_bytes_ = 0;
}

void SegmentPool::GiveBack(Buffer buffer) {
  std::vector<Buffer> excess;  // freed after the lock is
  std::lock_guard lock(mutex_);
  if (!keep_free_) {
    excess.push_back(std::move(buffer));
    return;
  }
  buffer_bytes_ += buffer.bytes;
  buffers_.push_back(std::move(buffer));
  while (buffer_bytes_ > kRecycledBytes) {
    buffer_bytes_ -= buffers_.front().bytes;
    excess.push_back(std::move(buffers_.front()));
    buffers_.erase(buffers_.begin());
  }
}

void SegmentPool::GiveBack(std::unique_ptr<Segment> segment) {
  segment->PlaceAt(nullptr, nullptr, 0);
  std::lock_guard lock(mutex_);
  if (keep_free_ && segments_.size() < kRecycledBytes / segment_bytes_) segments_.push_back(std::move(segment));
}

std::shared_ptr<Segment> StripeMemory::NewSegment(std::uint32_t lane) {
  const std::size_t row_bytes = pool_->row_bytes_;
  std::call_once(allocated_, [&] { tokens_ = pool_->NewBuffer(pool_->segment_sequences_ * lanes_ * row_bytes); });
  std::shared_ptr<Segment> segment = pool_->NewSegment();
  segment->PlaceAt(tokens_, tokens_.get() + lane * row_bytes, lanes_ * row_bytes);
  return segment;
}

}  // namespace iterand
