#include "iterate/endless_lane.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "iterate/limits.h"
#include "iterate/segment_writer.h"

namespace iterand {

EndlessLane::EndlessLane(std::uint64_t seed, std::uint32_t lane, std::uint64_t rounds_per_segment,
                         std::optional<LaneSnapshots> snapshots)
    : key_{.seed = seed, .lane = lane}, rounds_per_segment_(rounds_per_segment), stored_(std::move(snapshots)) {}

void EndlessLane::KeepSnapshot() {
  if (stored_ && live_.segment > 0 && stored_->due()) stored_->Keep(live_);
  if (live_.segment % snapshot_gap_ != 0 || snapshots_.contains(live_.segment)) return;
  if (snapshots_.size() == kMaxSnapshots) {
    snapshot_gap_ *= 2;
    std::erase_if(snapshots_, [this](const auto& entry) { return entry.first % snapshot_gap_ != 0; });
    if (live_.segment % snapshot_gap_ != 0) return;
  }
  snapshots_.emplace(live_.segment, live_);
}

absl::Status EndlessLane::Next(Pool& pool, SegmentWriter& writer, Segment& out) {
  const auto length = static_cast<std::size_t>(writer.symbols());
  const auto wanted = static_cast<std::size_t>(writer.sequences());
  pool.set_state(live_.pool, key_);
  LaneState::Pending& pending = live_.pending;
  const std::size_t left = pending.origins.size();  // by the segment before
  std::uint64_t round = live_.round;
  while (pending.origins.size() < wanted) {
    RandomKey key = key_;
    key.round = round;
    const FinishedRows finished = pool.Advance(key);
    if (pool.stopped()) {
      // The live pool is still that of before the segment. The pending rows must be as well.
      pending.symbols.resize(left * length);
      pending.origins.resize(left);
      pending.provenance.resize(left);
      return absl::CancelledError("cancelled");
    }
    for (int r = 0; r < finished.rows.rows(); ++r) {
      const RowOrigin& origin = finished.origins[static_cast<std::size_t>(r)];
      const Symbol* row = finished.rows.row(r);
      pending.symbols.insert(pending.symbols.end(), row, row + length);
      pending.origins.push_back(origin);
      pending.provenance.push_back(RowProvenance{.lane = static_cast<std::uint32_t>(key_.lane),
                                                 .row = static_cast<std::uint32_t>(r),
                                                 .segment = live_.segment,
                                                 .round = round,
                                                 .family = origin.family,
                                                 .depth = origin.depth});
    }
    ++round;
  }
  writer.Begin(key_, /*shuffle=*/false, out);
  for (std::size_t i = 0; i < wanted; ++i) {
    RowProvenance provenance = pending.provenance[i];
    provenance.segment = live_.segment;
    writer.Write(pending.symbols.data() + i * length, nullptr, provenance);
  }
  out.generated_symbols = pool.TakeGenerated();
  const auto count = static_cast<std::ptrdiff_t>(wanted);
  pending.symbols.erase(pending.symbols.begin(), pending.symbols.begin() + count * static_cast<std::ptrdiff_t>(length));
  pending.origins.erase(pending.origins.begin(), pending.origins.begin() + count);
  pending.provenance.erase(pending.provenance.begin(), pending.provenance.begin() + count);
  live_.pool = pool.state();
  live_.round = round;
  ++live_.segment;
  return absl::OkStatus();
}

absl::Status EndlessLane::Generate(std::uint64_t segment, Pool& pool, SegmentWriter& writer, Segment& out,
                                   std::uint64_t* replay_left) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [number, kept] : recent_) {
    if (number == segment) {
      kept.CopyTo(out);
      return absl::OkStatus();
    }
  }
  if (!started_) {
    pool.Start(key_);
    live_.pool = pool.state();
    started_ = true;
    KeepSnapshot();
  }
  // The nearest state at or before the segment.
  const LaneState* from = &std::prev(snapshots_.upper_bound(segment))->second;
  if (live_.segment <= segment && !from->IsBeyond(live_)) from = &live_;
  if (parked_.segment <= segment && parked_.IsBeyond(*from)) from = &parked_;
  std::optional<LaneState> stored;
  // A replay in time slices asks for the same segment repeatedly.
  const bool on_the_way = sought_.segment == segment && from->segment >= sought_.found;
  if (stored_ && from->segment < segment && !on_the_way) {
    stored = stored_->Nearest(segment, from->segment, from->pool);
    if (stored) from = &*stored;
    sought_ = {segment, from->segment};
  }
  // The estimate: as many rounds per segment as so far, but at least the fewest possible.
  const double so_far = from->segment > 0 ? static_cast<double>(from->round) / static_cast<double>(from->segment) : 0;
  const double rounds_ahead =
      static_cast<double>(segment - from->segment) * std::max(so_far, static_cast<double>(rounds_per_segment_));
  if (rounds_ahead > static_cast<double>(kMaxReplayRounds)) {
    return absl::OutOfRangeError(
        absl::StrCat("index: segment ", segment, " of an endless pool lies ", std::ceil(rounds_ahead),
                     " rounds ahead of the nearest pool that is kept (segment ", from->segment, "), and at most ",
                     kMaxReplayRounds, " are replayed; read on from there, or use a recipe with pool.endless false"));
  }
  if (from == &parked_) {
    std::swap(live_, parked_);
  } else if (from != &live_) {
    // A reader far back must not take the state of one ahead: no snapshot may be near enough to restore that.
    if (live_.IsBeyond(parked_)) std::swap(live_, parked_);
    live_ = *from;
  }
  while (true) {
    const std::uint64_t number = live_.segment;
    if (absl::Status status = Next(pool, writer, out); !status.ok()) return status;
    KeepSnapshot();
    if (recent_.size() < kRecentSegments) {
      recent_.emplace_back();
    } else {
      recent_.push_back(std::move(recent_.front()));  // reuses the oldest one's memory
      recent_.pop_front();
    }
    recent_.back().first = number;
    out.CopyTo(recent_.back().second);
    if (number == segment) return absl::OkStatus();
    if (replay_left != nullptr) {
      *replay_left = static_cast<std::uint64_t>(std::ceil(rounds_ahead));
      return absl::OkStatus();
    }
  }
}

}  // namespace iterand
