#include "server/engine/segment_task.h"

#include <algorithm>

#include "server/log.h"

namespace iterand {
namespace {

// Replays longer than this, in seconds of core time, are logged.
constexpr double kLoggedReplaySeconds = 1;

}  // namespace

absl::Status SegmentTask::Run(double seconds) {
  if (!workspace_) workspace_ = stream_->stream().NewWorkspace();
  if (!segment_) segment_ = entry_->stripe->buffer.NewSegment(entry_->stripe_lane);
  turn_.seconds = seconds;
  absl::Status status = stream_->stream().GenerateSegment(entry_->key.lane, entry_->key.segment, *workspace_,
                                                          &entry_->control, *segment_, &turn_);
  done_ = !turn_.unfinished;
  return status;
}

void SegmentTask::AddSeconds(double seconds) {
  seconds_ += seconds;
  slice_seconds_ = seconds;
}

bool SegmentTask::CountReplay() {
  if (turn_.replay_left == 0) return false;
  replay_rounds_ = std::max(replay_rounds_, turn_.replay_left);
  if (replay_logged_ || replay_rounds_ == turn_.replay_left || seconds_ < kLoggedReplaySeconds) return false;
  replay_logged_ = true;
  return true;
}

void SegmentTask::LogReplay() const {
  const std::uint64_t done = replay_rounds_ - turn_.replay_left;
  const double left = seconds_ / static_cast<double>(done) * static_cast<double>(turn_.replay_left);
  Log().info(
      "stream {}: replaying lane {} of an endless pool to segment {}, about {} rounds, of which {} are left; they "
      "will take about {:.0f} s of a core",
      ToHex(stream_->stream().fingerprint()), entry_->key.lane, entry_->key.segment, replay_rounds_, turn_.replay_left,
      left);
}

}  // namespace iterand
