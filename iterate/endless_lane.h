// A lane of an endless pool: one process that never restarts, read segment by segment.
//
// Its segments are consecutive stretches of what the pool emits. Making a segment requires all rounds before it. So the
// lane keeps two pools: the one that went furthest, and that of a reader further back. It also keeps snapshots of
// earlier pools to replay from, in memory and optionally in a folder. And it keeps the most recent segments, since
// several readers ask for neighbouring segments at the same time.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "iterate/pool.h"
#include "iterate/segment.h"
#include "iterate/snapshots.h"

namespace iterand {

class SegmentWriter;

class EndlessLane {
 public:
  // rounds_per_segment: the fewest that a segment takes. snapshots: those that outlive this process, if any.
  EndlessLane(std::uint64_t seed, std::uint32_t lane, std::uint64_t rounds_per_segment,
              std::optional<LaneSnapshots> snapshots);

  // Makes a segment with a thread's pool and writer, or copies it if it is among the most recent. Thread-safe: one
  // thread computes at a time. Errors: Cancelled if the pool is stopped; OutOfRange if more than kMaxReplayRounds, as
  // estimated from the lane so far, would have to be replayed.
  // With `replay_left`, set to 0 by the caller, a call that has to replay computes only one segment on the way. It sets
  // `replay_left` to the rounds that were left to replay before, at least 1, and leaves `out` unspecified.
  absl::Status Generate(std::uint64_t segment, Pool& pool, SegmentWriter& writer, Segment& out,
                        std::uint64_t* replay_left = nullptr);

 private:
  // Computes the live state's segment into `out` and advances the state to the next one.
  absl::Status Next(Pool& pool, SegmentWriter& writer, Segment& out);
  void KeepSnapshot();

  std::mutex mutex_;
  RandomKey key_;
  std::uint64_t rounds_per_segment_;
  bool started_ = false;
  LaneState live_;
  LaneState parked_;                              // of another reader; the furthest state is this or the live one
  std::map<std::uint64_t, LaneState> snapshots_;  // by segment; thinned so that gaps grow with the lane
  std::uint64_t snapshot_gap_ = 1;                // segments between snapshots
  std::optional<LaneSnapshots> stored_;           // in a folder
  struct {
    std::uint64_t segment = 0;
    std::uint64_t found = 0;
  } sought_;  // last segment looked up in the folder, and the nearest one with a state
  std::deque<std::pair<std::uint64_t, Segment>> recent_;
};

}  // namespace iterand
