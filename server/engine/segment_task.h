// SegmentTask: a segment in progress, from the first slice of its computation to the last.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "iterate/stream.h"
#include "server/engine/fair_scheduler.h"
#include "server/engine/segment_cache.h"
#include "server/engine/stream_registry.h"

namespace iterand {

class SegmentTask {
 public:
  SegmentTask() = default;
  SegmentTask(std::shared_ptr<FairScheduler::Account> account, std::shared_ptr<SharedStream> stream,
              std::shared_ptr<SegmentEntry> entry)
      : account_(std::move(account)), stream_(std::move(stream)), entry_(std::move(entry)) {}

  const std::shared_ptr<FairScheduler::Account>& account() const { return account_; }
  const std::shared_ptr<SharedStream>& stream() const { return stream_; }
  const std::shared_ptr<SegmentEntry>& entry() const { return entry_; }
  bool cancelled() const { return entry_->control.stopped(); }

  // Computes until the end of the round at which `seconds` have passed, or until the segment is complete. Makes a
  // workspace if it has none. Errors are those of Stream::GenerateSegment.
  absl::Status Run(double seconds);
  // Whether the segment is complete, or has failed. False before the first Run.
  bool done() const { return done_; }

  // The segment, once it is complete.
  std::shared_ptr<const Segment> TakeSegment() { return std::move(segment_); }

  // The workspace is held from the first slice to the last. For an endless pool each slice may take another.
  bool has_workspace() const { return workspace_ != nullptr; }
  void GiveWorkspace(std::unique_ptr<Workspace> workspace) { workspace_ = std::move(workspace); }
  bool may_return_workspace() const { return job_ && !job_->keeps_workspace(); }
  std::unique_ptr<Workspace> TakeWorkspace() { return std::move(workspace_); }

  // Adds core time of the slice that was run last.
  void AddSeconds(double seconds);
  double seconds() const { return seconds_; }              // in all
  double slice_seconds() const { return slice_seconds_; }  // of the slice that was run last

  // Whether an endless pool is or was replayed to reach the segment.
  bool replays() const { return replay_rounds_ > 0; }
  // Counts the rounds of a slice that replayed. Returns true once, after a second of core time, so that ReplayReport
  // can inform the user who waits.
  bool CountReplay();
  std::string ReplayReport() const;

 private:
  std::shared_ptr<FairScheduler::Account> account_;
  std::shared_ptr<SharedStream> stream_;
  std::shared_ptr<SegmentEntry> entry_;
  std::optional<SegmentJob> job_;  // begun
  std::shared_ptr<Segment> segment_;
  std::unique_ptr<Workspace> workspace_;
  bool done_ = false;
  double seconds_ = 0;
  double slice_seconds_ = 0;
  std::uint64_t replay_rounds_ = 0;  // in all, if it has to be replayed to
  bool replay_logged_ = false;
};

}  // namespace iterand
