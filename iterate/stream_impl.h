// What a Stream holds. Only for the files that implement Stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
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
    bool claimed = false;  // by a row of the present pass; only while ClaimSegments runs
  };

  // Claims the segments that the rows from `begin` on need, as long as one segment of each lane is enough, and lists
  // those that are missing. Returns the first row that needs another segment.
  int ClaimSegments(const ReadOptions& options, int begin);
  // Generates the missing segments; errors by thread.
  void GenerateMissing(const Stream& stream, int thread_count);
  // Copies the rows whose segments are held.
  void CopyRows(const ReadOptions& options, int begin, int end, std::span<std::byte> tokens, int thread_count) const;
  Position PositionOf(const ReadOptions& options, int row) const;

  const std::shared_ptr<const StreamPlan> plan;
  const std::vector<std::string> part_names;
  std::vector<std::unique_ptr<EndlessLane>> endless;  // one per lane, if the pool is endless

  // State of Read.
  std::mutex read_mutex;
  int threads = 0;
  std::vector<HeldSegment> held;  // by lane
  std::vector<std::unique_ptr<Workspace>> workspaces;
  std::vector<std::uint32_t> missing;  // lanes whose claimed segment must be generated
  std::vector<std::uint32_t> claimed;  // lanes of the present pass
  std::vector<absl::Status> errors;    // by thread
};

}  // namespace iterand
