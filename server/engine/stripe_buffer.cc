#include "server/engine/stripe_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

#include "absl/base/config.h"

namespace iterand {
namespace {

// Free memory that a stream keeps, in bytes: as much as a reader has ahead by default.
constexpr std::size_t kRecycledBytes = 8 << 20;

constexpr std::align_val_t kCacheLine{64};

// Smaller buffers are not mapped by themselves, in bytes: a call of the system would cost more than their tokens.
constexpr std::size_t kMinMappedBytes = 256 << 10;

// AddressSanitizer watches only what malloc and new give.
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
constexpr bool kHasAddressSanitizer = true;
#else
constexpr bool kHasAddressSanitizer = false;
#endif

}  // namespace

SegmentAllocator::SegmentAllocator(const Stream& stream, bool map_buffers)
    : row_bytes_(stream.sequence_bytes()),
      segment_sequences_(static_cast<std::size_t>(stream.segment_sequences())),
      segment_bytes_(static_cast<std::size_t>(stream.Cost().segment_bytes) +
                     segment_sequences_ * sizeof(RowProvenance)),
      map_buffers_(map_buffers && !kHasAddressSanitizer) {}

void SegmentAllocator::Free::operator()(std::byte* memory) const {
  if (mapped) {
    munmap(memory, bytes);
  } else {
    ::operator delete(memory, kCacheLine);
  }
}

SegmentAllocator::Buffer SegmentAllocator::Allocate(std::size_t bytes) const {
  const Free free{.bytes = bytes, .mapped = map_buffers_ && bytes >= kMinMappedBytes};
  if (!free.mapped) return {static_cast<std::byte*>(::operator new(bytes, kCacheLine)), free};
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return {static_cast<std::byte*>(memory), free};
}

std::shared_ptr<std::byte> SegmentAllocator::NewBuffer(std::size_t bytes) {
  Buffer buffer;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = std::find_if(buffers_.rbegin(), buffers_.rend(),
                                    [bytes](const Buffer& free) { return free.get_deleter().bytes == bytes; });
    if (found != buffers_.rend()) {
      buffer = std::move(*found);
      buffers_.erase(std::next(found).base());
      buffer_bytes_ -= bytes;
    }
  }
  if (!buffer) buffer = Allocate(bytes);
  const Free free = buffer.get_deleter();
  return {buffer.release(),
          [allocator = shared_from_this(), free](std::byte* memory) { allocator->GiveBack(Buffer(memory, free)); }};
}

std::shared_ptr<Segment> SegmentAllocator::NewSegment() {
  std::unique_ptr<Segment> segment;
  {
    absl::MutexLock lock(&mutex_);
    if (!segments_.empty()) {
      segment = std::move(segments_.back());
      segments_.pop_back();
    }
  }
  if (!segment) segment = std::make_unique<Segment>();
  return {segment.release(),
          [allocator = shared_from_this()](Segment* done) { allocator->GiveBack(std::unique_ptr<Segment>(done)); }};
}

void SegmentAllocator::KeepFree(bool keep) {
  std::vector<Buffer> buffers;  // freed after the lock is released
  std::vector<std::unique_ptr<Segment>> segments;
  absl::MutexLock lock(&mutex_);
  keep_free_ = keep;
  if (keep) return;
  buffers.swap(buffers_);
  segments.swap(segments_);
  buffer_bytes_ = 0;
}

void SegmentAllocator::GiveBack(Buffer buffer) {
  std::vector<Buffer> excess;  // freed after the lock is released
  absl::MutexLock lock(&mutex_);
  if (!keep_free_) {
    excess.push_back(std::move(buffer));
    return;
  }
  buffer_bytes_ += buffer.get_deleter().bytes;
  buffers_.push_back(std::move(buffer));
  while (buffer_bytes_ > kRecycledBytes) {
    buffer_bytes_ -= buffers_.front().get_deleter().bytes;
    excess.push_back(std::move(buffers_.front()));
    buffers_.erase(buffers_.begin());
  }
}

void SegmentAllocator::GiveBack(std::unique_ptr<Segment> segment) {
  segment->PlaceAt(nullptr, nullptr, 0);
  absl::MutexLock lock(&mutex_);
  if (keep_free_ && segments_.size() < kRecycledBytes / segment_bytes_) segments_.push_back(std::move(segment));
}

std::shared_ptr<Segment> StripeBuffer::NewSegment(std::uint32_t lane) {
  const std::size_t row_bytes = allocator_->row_bytes();
  std::call_once(allocated_,
                 [&] { tokens_ = allocator_->NewBuffer(allocator_->segment_sequences() * lanes_ * row_bytes); });
  std::shared_ptr<Segment> segment = allocator_->NewSegment();
  segment->PlaceAt(tokens_, tokens_.get() + lane * row_bytes, lanes_ * row_bytes);
  return segment;
}

}  // namespace iterand
