// StripeBuffer: memory for one segment of each of several lanes, with its rows in the order in which they are sent.
//
// The rows of a batch come from different lanes in turn, and each lane has segments of its own. If each segment also
// had memory of its own, a batch would have to be gathered row by row. A reader that takes segment s of `lanes` lanes
// in turn, as trainers and their shards do, therefore has these segments generated into one stripe. Row p of the lane
// that is j-th in turn is row p * lanes + j of the stripe. A batch is then one piece of memory, or two where a stripe
// ends, and is sent without a copy. A stripe of one lane is plain memory of a segment.
//
// A stripe's memory is freed once none of its segments is held or being sent. Holding one of them holds them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "iterate/stream.h"

namespace iterand {

// SegmentAllocator: memory for the segments of one stream, used again once they are released, because fresh pages cost
// more than generating cheap tokens. Held by shared pointers, since what it gives out returns to it. Thread-safe.
class SegmentAllocator : public std::enable_shared_from_this<SegmentAllocator> {
 public:
  // `map_buffers`: see EngineOptions.
  explicit SegmentAllocator(const Stream& stream, bool map_buffers = false);

  // Memory of one segment, in bytes.
  std::size_t segment_bytes() const { return segment_bytes_; }
  std::size_t row_bytes() const { return row_bytes_; }
  std::size_t segment_sequences() const { return segment_sequences_; }

  // Sets whether free memory is kept, as it is at first. If not, it is released at once, and later returns likewise.
  void KeepFree(bool keep);

  // At least `bytes` bytes, aligned to a cache line.
  std::shared_ptr<std::byte> NewBuffer(std::size_t bytes);
  std::shared_ptr<Segment> NewSegment();

 private:
  struct Free {
    std::size_t bytes = 0;
    bool mapped = false;
    void operator()(std::byte* memory) const;
  };
  using Buffer = std::unique_ptr<std::byte, Free>;

  Buffer Allocate(std::size_t bytes) const;
  void GiveBack(Buffer buffer);
  void GiveBack(std::unique_ptr<Segment> segment);

  const std::size_t row_bytes_;
  const std::size_t segment_sequences_;
  const std::size_t segment_bytes_;
  const bool map_buffers_;

  absl::Mutex mutex_;
  bool keep_free_ ABSL_GUARDED_BY(mutex_) = true;
  std::vector<Buffer> buffers_ ABSL_GUARDED_BY(mutex_);  // free, most recently used last
  std::size_t buffer_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<Segment>> segments_ ABSL_GUARDED_BY(mutex_);  // free
};

class StripeBuffer {
 public:
  StripeBuffer(std::shared_ptr<SegmentAllocator> allocator, std::uint32_t lanes)
      : allocator_(std::move(allocator)), lanes_(lanes) {}

  std::size_t bytes() const { return lanes_ * allocator_->segment_bytes(); }

  // A segment to be generated, whose rows have the places of that lane. To be called once per lane. Thread-safe.
  std::shared_ptr<Segment> NewSegment(std::uint32_t lane);

 private:
  const std::shared_ptr<SegmentAllocator> allocator_;
  const std::uint32_t lanes_;
  std::once_flag allocated_;
  std::shared_ptr<std::byte> tokens_;  // segment_sequences x lanes rows, from the first segment on
};

}  // namespace iterand
