#include "server/engine/index_reader.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"

namespace iterand {

absl::StatusOr<std::unique_ptr<IndexReader>> IndexReader::Open(EngineState* engine,
                                                               std::shared_ptr<SharedStream> stream,
                                                               std::span<const std::uint64_t> indices,
                                                               Callback on_ready) {
  if (stream->segment_bytes() > engine->options.max_stream_bytes) {
    const std::string limit = absl::StrCat(engine->options.max_stream_bytes);
    const std::string message =
        absl::StrCat("a segment of this recipe takes ", stream->segment_bytes(), " bytes, more than the ", limit,
                     " that a reader may hold: use a smaller segment_sequences");
    return WithReason(v1::STREAM_TOO_LARGE, absl::ResourceExhaustedError(message), {{"limit", limit}});
  }
  const IndexMap& map = stream->stream().index_map();
  std::vector<Row> rows;
  rows.reserve(indices.size());
  for (std::size_t row = 0; row < indices.size(); ++row) {
    const Position position = map.Locate(indices[row]);
    rows.push_back({.segment = position.segment, .lane = position.lane, .offset = position.offset, .row = row});
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::tie(a.segment, a.lane, a.row) < std::tie(b.segment, b.lane, b.row);
  });
  return std::unique_ptr<IndexReader>(new IndexReader(engine, std::move(stream), std::move(rows), std::move(on_ready)));
}

IndexReader::IndexReader(EngineState* engine, std::shared_ptr<SharedStream> stream, std::vector<Row> rows,
                         Callback on_ready)
    : engine_(*engine),
      stream_(std::move(stream)),
      rows_(std::move(rows)),
      max_bytes_(std::min(engine->options.max_stream_bytes,
                          std::max(engine->options.readahead_bytes,
                                   2 * static_cast<std::size_t>(engine->options.threads) * stream_->segment_bytes()))) {
  absl::MutexLock lock(&engine_.mutex);
  unstarted_.account = engine_.scheduler.NewAccount();
  unstarted_.stream = stream_;
  waiter_.account = unstarted_.account;
  waiter_.on_ready = std::make_shared<const Callback>(std::move(on_ready));
  Refill();
}

IndexReader::~IndexReader() { Close(); }

void IndexReader::Refill() {
  std::deque<std::shared_ptr<SegmentEntry>>& unstarted = unstarted_.entries;
  const bool was_idle = unstarted.empty();
  int added = 0;
  while (wanted_ < rows_.size()) {
    const Row& first = rows_[wanted_];
    const SegmentKey key{stream_->stream().fingerprint(), first.lane, first.segment};
    std::shared_ptr<SegmentEntry> entry = engine_.cache.Find(key);
    // Segments that others have generated may be in stripes of any size, which count as a whole.
    const auto fits = [&](std::size_t bytes) { return held_bytes_ + bytes <= max_bytes_; };
    if (entry && (stripes_.contains(entry->stripe.get()) || fits(entry->stripe->buffer.bytes()))) {
      engine_.cache.AddHolder(*entry);
    } else {
      if (!groups_.empty() && (entry || !fits(stream_->segment_bytes()))) break;
      entry = engine_.cache.Insert(key, std::make_shared<Stripe>(stream_->allocator(), 1), 0);
    }
    if (stripes_[entry->stripe.get()]++ == 0) {
      held_bytes_ += entry->stripe->buffer.bytes();
      engine_.stats.held_bytes += entry->stripe->buffer.bytes();
      engine_.stats.largest_held_bytes = std::max<std::uint64_t>(engine_.stats.largest_held_bytes, held_bytes_);
    }
    const std::size_t begin = wanted_;
    while (wanted_ < rows_.size() && rows_[wanted_].segment == key.segment && rows_[wanted_].lane == key.lane) {
      ++wanted_;
    }
    if (entry->GetState() == SegmentEntry::State::kQueued) {
      unstarted.push_back(entry);
      ++added;
    }
    groups_.push_back({std::move(entry), begin, wanted_});
  }
  if (added == 0) return;
  if (was_idle) engine_.scheduler.Activate(*unstarted_.account);
  engine_.queue.Add(&unstarted_);
  engine_.WakeWorkers(added);
}

void IndexReader::Release(const std::shared_ptr<SegmentEntry>& entry) {
  const auto stripe = stripes_.find(entry->stripe.get());
  if (--stripe->second == 0) {
    stripes_.erase(stripe);
    held_bytes_ -= entry->stripe->buffer.bytes();
    engine_.stats.held_bytes -= entry->stripe->buffer.bytes();
  }
  engine_.cache.ReleaseHolder(entry);
}

absl::StatusOr<bool> IndexReader::Take(Sink sink) {
  std::vector<std::shared_ptr<SegmentEntry>> garbage;  // freed after the mutex is released
  while (!groups_.empty()) {
    Group& group = groups_.front();
    if (group.entry->state.load(std::memory_order_acquire) != SegmentEntry::State::kReady) {
      absl::MutexLock lock(&engine_.mutex);
      const SegmentEntry::State state = group.entry->GetState();
      if (state == SegmentEntry::State::kFailed) return group.entry->error;
      if (state != SegmentEntry::State::kReady) {
        if (waiter_.waits_for != group.entry.get()) {
          group.entry->waiters.push_back(&waiter_);
          waiter_.waits_for = group.entry.get();
          engine_.scheduler.BeginWait(*unstarted_.account);
        }
        return false;
      }
    }
    for (std::size_t i = group.begin; i < group.end; ++i) sink(rows_[i].row, group.entry->segment, rows_[i].offset);
    garbage.push_back(std::move(group.entry));
    groups_.pop_front();
    absl::MutexLock lock(&engine_.mutex);
    Release(garbage.back());
    Refill();
  }
  return true;
}

void IndexReader::Close() {
  std::deque<Group> garbage;  // freed after the mutex is released
  std::deque<std::shared_ptr<SegmentEntry>> unstarted;
  absl::MutexLock lock(&engine_.mutex);
  if (closed_) return;
  closed_ = true;
  engine_.queue.Remove(&unstarted_);
  for (const Group& group : groups_) {
    if (group.entry.get() == waiter_.waits_for) std::erase(group.entry->waiters, &waiter_);
    Release(group.entry);
  }
  waiter_.waits_for = nullptr;
  unstarted.swap(unstarted_.entries);
  garbage.swap(groups_);
}

}  // namespace iterand
