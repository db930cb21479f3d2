// A stripe: memory for one segment of each of some lanes, in which rows lie in the order in which they are sent.
//
// The rows of a batch come from different lanes in turn, and every lane has its segments to itself. If each segment
// also had its memory to itself, a batch would have to be gathered row by row. So a feed that reads segment s of
// `lanes` lanes in turn, as trainers and their shards do, has these segments generated into one stripe: row p of the
// lane that is j-th in turn is row p * lanes + j of the stripe. A batch is then one piece of memory, or two where a
// stripe ends, and is sent as it lies. A stripe of one lane is plain memory of a segment.
//
// A stripe's memory is freed when none of its segments is held or being sent any more, so whoever holds one of them
// holds it whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "iterate/stream.h"

namespace iterand {

// Memory of the segments of one stream, filled again once they are let go: pages that are new to the process cost more
// than generating cheap tokens. Held by shared pointers, as what comes from it comes back to it. Thread-safe.
class SegmentPool : public std::enable_shared_from_this<SegmentPool> {
 public:
  explicit SegmentPool(const Stream& stream);

  // Memory of one segment, in bytes.
  std::size_t segment_bytes() const { return segment_bytes_; }

  // Whether free memory is kept, as at first. If not, what there is goes at once, and what still comes back goes too.
  void KeepFree(bool keep);

 private:
  friend class StripeMemory;

  struct Free {
    void operator()(std::byte* memory) const;
  };
  struct Buffer {
    std::unique_ptr<std::byte, Free> memory;
    std::size_t bytes = 0;
  };

  std::shared_ptr<std::byte> NewBuffer(std::size_t bytes);
  std::shared_ptr<Segment> NewSegment();
  void GiveBack(Buffer buffer);
  void GiveBack(std::unique_ptr<Segment> segment);

  const std::size_t row_bytes_;
  const std::size_t segment_sequences_;
  const std::size_t segment_bytes_;
  std::mutex mutex_;
  bool keep_free_ = true;
  std::vector<Buffer> buffers_;  // free, most recently used last
  std::size_t buffer_bytes_ = 0;
  std::vector<std::unique_ptr<Segment>> segments_;  // free
};

class StripeMemory {
 public:
  StripeMemory(std::shared_ptr<SegmentPool> pool, std::uint32_t lanes) : pool_(std::move(pool)), lanes_(lanes) {}

  std::size_t bytes() const { return lanes_ * pool_->segment_bytes(); }

  // A segment to be generated, whose rows lie in the places of that lane. Once a lane; thread-safe.
  std::shared_ptr<Segment> NewSegment(std::uint32_t lane);

 private:
  const std::shared_ptr<SegmentPool> pool_;
  const std::uint32_t lanes_;
  std::once_flag allocated_;
  std::shared_ptr<std::byte> tokens_;  // segment_sequences x lanes rows, from the first segment on
};

}  // namespace iterand
