#include "server/engine/segment_task.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace iterand {
namespace {

// Replays longer than this, in seconds of core time, are logged.
constexpr double kLoggedReplaySeconds = 1;

}  // namespace

absl::Status SegmentTask::Run(double seconds) {
  if (!workspace_) workspace_ = stream_->stream().NewWorkspace();
  if (!segment_) segment_ = entry_->stripe->buffer.NewSegment(entry_->stripe_lane);
  if (!job_) {
    job_ = stream_->stream().Begin(entry_->key.lane, entry_->key.segment, *segment_, &entry_->control);
  }
  done_ = job_->Run(*workspace_, SegmentJob::Seconds(seconds));
  return job_->status();
}

void SegmentTask::AddSeconds(double seconds) {
  seconds_ += seconds;
  slice_seconds_ = seconds;
}

bool SegmentTask::CountReplay() {
  const std::uint64_t left = job_ ? job_->replay_left() : 0;
  if (left == 0) return false;
  replay_rounds_ = std::max(replay_rounds_, left);
  if (replay_logged_ || replay_rounds_ == left || seconds_ < kLoggedReplaySeconds) return false;
  replay_logged_ = true;
  return true;
}

std::string SegmentTask::ReplayReport() const {
  const std::uint64_t rounds_left = job_ ? job_->replay_left() : 0;
  const std::uint64_t done = replay_rounds_ - rounds_left;
  const double seconds_left = seconds_ / static_cast<double>(done) * static_cast<double>(rounds_left);
  return absl::StrFormat(
      "stream %s: replaying lane %d of an endless pool to segment %d, about %d rounds, of which %d are left; they "
      "will take about %.0f core-seconds",
      ToHex(stream_->stream().fingerprint()), entry_->key.lane, entry_->key.segment, replay_rounds_, rounds_left,
      seconds_left);
}

}  // namespace iterand
