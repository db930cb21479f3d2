// What a Stream holds. For the files that implement Stream alone.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "iterate/endless_lane.h"
#include "iterate/plan.h"
#include "iterate/segment.h"
#include "iterate/snapshots.h"
#include "iterate/stream.h"

namespace iterand {

class Stream::Impl {
 public:
  Impl(std::shared_ptr<const StreamPlan> stream_plan, const std::shared_ptr<const SnapshotFolder>& snapshots);

  // What Read keeps of a lane: the segment that it read last.
  struct HeldSegment {
    Segment segment;
    std::uint64_t number = 0;
    bool valid = false;
    bool claimed = false;  // by a row of the present pass
  };

  const std::shared_ptr<const StreamPlan> plan;
  std::vector<std::unique_ptr<EndlessLane>> endless;  // one per lane, if the pool is endless

  // State of Read.
  std::mutex read_mutex;
  int threads = 0;
  std::vector<HeldSegment> held;  // by lane
  std::vector<std::unique_ptr<Workspace>> workspaces;
  std::vector<std::uint32_t> missing;  // lanes whose claimed segment must be made
  std::vector<std::uint32_t> claimed;  // lanes of the present pass
  std::vector<absl::Status> errors;    // by thread
};

}  // namespace iterand
