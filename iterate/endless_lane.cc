#include "iterate/endless_lane.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "iterate/limits.h"
#include "iterate/segment_writer.h"

namespace iterand {

EndlessLane::EndlessLane(std::uint64_t seed, std::uint32_t lane, std::uint64_t rounds_per_segment)
    : key_{.seed = seed, .lane = lane}, rounds_per_segment_(rounds_per_segment) {}

void EndlessLane::KeepSnapshot() {
  if (live_.segment % snapshot_gap_ != 0) return;
  snapshots_.insert_or_assign(live_.segment, live_);
  if (snapshots_.size() <= kMaxSnapshots) return;
  snapshot_gap_ *= 2;
  std::erase_if(snapshots_, [this](const auto& entry) { return entry.first % snapshot_gap_ != 0; });
}

absl::Status EndlessLane::Next(Pool& pool, SegmentWriter& writer, const std::atomic<bool>* cancelled, Segment& out) {
  const auto length = static_cast<std::size_t>(writer.symbols());
  const auto wanted = static_cast<std::size_t>(writer.sequences());
  pool.set_state(live_.pool, key_);
  Pending& pending = live_.pending;
  std::uint64_t round = live_.round;
  while (pending.origins.size() < wanted) {
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) {
      // What was computed stays: the pool, the round and the pending rows belong together.
      live_.pool = pool.state();
      live_.round = round;
      return absl::CancelledError("cancelled");
    }
    RandomKey key = key_;
    key.round = round;
    const FinishedRows finished = pool.Advance(key);
    for (int r = 0; r < finished.rows.rows(); ++r) {
      const RowOrigin& origin = finished.origins[static_cast<std::size_t>(r)];
      const Symbol* row = finished.rows.row(r);
      pending.symbols.insert(pending.symbols.end(), row, row + length);
      pending.origins.push_back(origin);
      pending.provenance.push_back(RowProvenance{.lane = static_cast<std::uint32_t>(key_.lane),
                                                 .segment = live_.segment,
                                                 .round = round,
                                                 .row = static_cast<std::uint32_t>(r),
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

absl::Status EndlessLane::Generate(std::uint64_t segment, Pool& pool, SegmentWriter& writer,
                                   const std::atomic<bool>* cancelled, Segment& out, std::uint64_t* replay_left) {
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
  // The nearest state at or before the segment: the live one or a snapshot.
  auto snapshot = std::prev(snapshots_.upper_bound(segment));
  const bool from_live = live_.segment <= segment && live_.segment >= snapshot->first;
  const std::uint64_t from = from_live ? live_.segment : snapshot->first;
  const std::uint64_t from_round = from_live ? live_.round : snapshot->second.round;
  // As many a segment as there were so far, and no fewer than there must be.
  const double so_far = from > 0 ? static_cast<double>(from_round) / static_cast<double>(from) : 0;
  const double rounds_ahead =
      static_cast<double>(segment - from) * std::max(so_far, static_cast<double>(rounds_per_segment_));
  if (rounds_ahead > static_cast<double>(kMaxReplayRounds)) {
    return absl::OutOfRangeError(
        absl::StrCat("index: segment ", segment, " of an endless pool lies ", std::ceil(rounds_ahead),
                     " rounds ahead of the nearest pool that is kept (segment ", from, "), and at most ",
                     kMaxReplayRounds, " are replayed; read on from there, or use a recipe with pool.endless false"));
  }
  if (!from_live) live_ = snapshot->second;
  while (true) {
    const std::uint64_t number = live_.segment;
    if (absl::Status status = Next(pool, writer, cancelled, out); !status.ok()) return status;
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
