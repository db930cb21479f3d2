#include "server/engine/sequence_reader.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"

namespace iterand {
namespace {

using Wide = ReadPattern::Wide;

// A reader wants the segments of this many times the rows that were taken, so that clients that read little cause
// little work.
constexpr std::uint64_t kLookahead = 3;

}  // namespace

absl::StatusOr<std::unique_ptr<SequenceReader>> SequenceReader::Open(EngineState* engine,
                                                                     std::shared_ptr<SharedStream> stream,
                                                                     const Options& options, Callback on_ready) {
  const absl::StatusOr<ReadPattern> pattern =
      ReadPattern::Make(stream->stream(), options.first, options.stride, options.count);
  if (!pattern.ok()) return pattern.status();
  const std::uint64_t in_use = pattern->segments_in_use();
  const std::size_t segment_bytes = stream->segment_bytes();
  const std::size_t max_stream_bytes = engine->options.max_stream_bytes;
  if (Wide{in_use} * segment_bytes > max_stream_bytes) {
    const std::string message = absl::StrCat(
        "the stream reads from ", in_use, " lanes at once, whose segments of ", pattern->segment_sequences(),
        " sequences take ", segment_bytes, " bytes each, ", in_use * segment_bytes, " in all; this server allows ",
        max_stream_bytes,
        " bytes per stream (--max-stream-bytes): use a larger world_size, or a recipe with fewer lanes or smaller "
        "segment_sequences");
    return WithReason(v1::STREAM_TOO_LARGE, absl::ResourceExhaustedError(message),
                      {{"limit", absl::StrCat(max_stream_bytes)}});
  }
  const std::size_t in_use_bytes = in_use * segment_bytes;
  const std::size_t ahead = std::min(max_stream_bytes, std::max(engine->options.readahead_bytes, 2 * in_use_bytes));
  return std::unique_ptr<SequenceReader>(new SequenceReader(engine, std::move(stream), *pattern, options, in_use_bytes,
                                                            std::max(in_use_bytes, ahead), std::move(on_ready)));
}

SequenceReader::SequenceReader(EngineState* engine, std::shared_ptr<SharedStream> stream, const ReadPattern& pattern,
                               const Options& options, std::size_t in_use_bytes, std::size_t max_bytes,
                               Callback on_ready)
    : engine_(*engine),
      stream_(std::move(stream)),
      pattern_(pattern),
      first_batch_size_(options.first_batch_size),
      owner_(options.exclusive ? engine->next_owner.fetch_add(1, std::memory_order_relaxed) : 0),
      in_use_bytes_(in_use_bytes),
      max_bytes_(max_bytes),
      remaining_(options.count),
      next_index_(options.first),
      slots_(pattern.slots()),
      starting_(options.first_batch_size > 0) {
  for (std::uint64_t j = 0; j < slots_.size(); ++j) {
    slots_[j].place = pattern_.place(j, 0);
    slots_[j].offset = pattern_.offset(slots_[j].place);
    pending_.emplace(0, static_cast<std::uint32_t>(j));
  }
  const double first_segments = pattern_.SegmentsOfFirst(first_batch_size_);
  const double segment_seconds = stream_->SecondsPerSegment();
  absl::MutexLock lock(&engine_.mutex);
  unstarted_.account = starting_ ? engine_.scheduler.NewStartingAccount(first_segments, segment_seconds)
                                 : engine_.scheduler.NewAccount();
  unstarted_.stream = stream_;
  waiter_.account = unstarted_.account;
  waiter_.on_ready = std::make_shared<const Callback>(std::move(on_ready));
  Refill(/*needs_next=*/false);
}

SequenceReader::~SequenceReader() { Close(); }

void SequenceReader::AddHeldBytes(std::size_t bytes) {
  held_bytes_ += bytes;
  engine_.stats.held_bytes += bytes;
  engine_.stats.largest_held_bytes = std::max<std::uint64_t>(engine_.stats.largest_held_bytes, held_bytes_);
}

void SequenceReader::SubtractHeldBytes(std::size_t bytes) {
  held_bytes_ -= bytes;
  engine_.stats.held_bytes -= bytes;
}

Wide SequenceReader::Window() const {
  if (first_batch_size_ == 0) return std::numeric_limits<Wide>::max();
  if (starting_) return first_batch_size_;
  return Wide{kLookahead} * (pattern_.count() - remaining_);
}

std::shared_ptr<SegmentEntry> SequenceReader::Acquire(std::uint64_t slot, std::uint64_t round, bool needed) {
  const SegmentKey key{stream_->stream().fingerprint(), pattern_.lane(slot), pattern_.segment(slot, round), owner_};
  std::shared_ptr<SegmentEntry> entry = engine_.cache.Find(key);
  // Segments that others have generated may be in stripes of any size. Room is left for what must be held at once, in
  // stripes of this reader. A row that is due can therefore always be had, by generating its segment again if need be.
  if (entry && (stripes_.contains(entry->stripe.get()) ||
                held_bytes_ + entry->stripe->buffer.bytes() + in_use_bytes_ <= max_bytes_)) {
    engine_.cache.AddHolder(*entry);
  } else {
    if (entry && !needed) return nullptr;
    std::shared_ptr<Stripe> stripe = stripe_segment_ == key.segment ? stripe_ : nullptr;
    if (!stripe) {
      const std::uint32_t lanes = pattern_.StripeLanes(slot, round);
      if (held_bytes_ + lanes * stream_->segment_bytes() > max_bytes_) return nullptr;
      stripe = std::make_shared<Stripe>(stream_->allocator(), lanes);
      if (lanes > 1) {
        stripe_ = stripe;
        stripe_segment_ = key.segment;
      }
    }
    const std::uint32_t stripe_lane = stripe == stripe_ ? pattern_.stripe_lane(slot) : 0;
    entry = engine_.cache.Insert(key, std::move(stripe), stripe_lane);
  }
  if (stripes_[entry->stripe.get()]++ == 0) AddHeldBytes(entry->stripe->buffer.bytes());
  return entry;
}

void SequenceReader::Refill(bool needs_next) {
  std::deque<std::shared_ptr<SegmentEntry>>& unstarted = unstarted_.entries;
  const bool was_idle = unstarted.empty();
  const Wide window = Window();
  int added = 0;
  window_is_full_ = false;
  while (!pending_.empty()) {
    const auto [round, slot] = pending_.top();
    const bool needed = needs_next && lookahead_.empty();
    if (!needed && pattern_.row(slot, round) >= window) {
      window_is_full_ = true;
      break;
    }
    std::shared_ptr<SegmentEntry> entry = Acquire(slot, round, needed);
    if (!entry) break;
    pending_.pop();
    const Wide next_round = pattern_.RoundAfter(slot, entry->key.segment);
    if (pattern_.row(slot, next_round) < pattern_.count()) {
      pending_.emplace(static_cast<std::uint64_t>(next_round), slot);
    }
    if (entry->GetState() == SegmentEntry::State::kQueued) {
      unstarted.push_back(entry);
      ++added;
    }
    lookahead_.push_back(std::move(entry));
  }
  if (added == 0) return;
  if (was_idle) engine_.scheduler.Activate(*unstarted_.account);
  engine_.queue.Add(&unstarted_);
  engine_.WakeWorkers(added);
}

void SequenceReader::ReleaseFinished(Entries& garbage, bool needs_next) {
  for (std::shared_ptr<SegmentEntry>& entry : finished_) {
    const auto stripe = stripes_.find(entry->stripe.get());
    if (--stripe->second == 0) {
      SubtractHeldBytes(entry->stripe->buffer.bytes());
      if (entry->stripe == stripe_) stripe_ = nullptr;
      stripes_.erase(stripe);
    }
    engine_.cache.ReleaseHolder(entry);
    garbage.push_back(std::move(entry));
  }
  finished_.clear();
  Refill(needs_next);
}

SegmentEntry* SequenceReader::LastMissing(int rows) const {
  const auto missing = [](const SegmentEntry& entry) {
    const SegmentEntry::State state = entry.state.load(std::memory_order_acquire);
    return state == SegmentEntry::State::kQueued || state == SegmentEntry::State::kRunning;
  };
  SegmentEntry* last = slots_[slot_].entry.get();
  auto ahead = lookahead_.begin();
  const std::uint64_t most = std::min({static_cast<std::uint64_t>(rows), remaining_, std::uint64_t{slots_.size()}});
  for (std::uint64_t i = 1; i < most; ++i) {
    SegmentEntry* entry = slots_[(slot_ + i) % slots_.size()].entry.get();
    if (entry == nullptr) {
      if (ahead == lookahead_.end()) break;
      entry = (ahead++)->get();
    }
    if (missing(*entry)) last = entry;
  }
  return last;
}

absl::StatusOr<int> SequenceReader::Take(int rows, Sink sink) {
  const std::uint64_t sequences = pattern_.segment_sequences();
  const std::uint64_t step = pattern_.step();
  Entries garbage;  // freed after the mutex is released
  int taken = 0;
  while (taken < rows && remaining_ > 0) {
    Slot& slot = slots_[slot_];
    if (!slot.entry) {
      if (lookahead_.empty()) {  // all that may be held has been taken
        absl::MutexLock lock(&engine_.mutex);
        ReleaseFinished(garbage, /*needs_next=*/true);
      }
      slot.entry = std::move(lookahead_.front());
      lookahead_.pop_front();
    }
    if (slot.entry->state.load(std::memory_order_acquire) != SegmentEntry::State::kReady) {
      absl::MutexLock lock(&engine_.mutex);
      const SegmentEntry::State state = slot.entry->GetState();
      if (state == SegmentEntry::State::kFailed) return slot.entry->error;
      if (state != SegmentEntry::State::kReady) {
        if (waiter_.waits_for == nullptr) {
          // Recipes that fail usually do so in the first batch, and that error should not wait for other segments.
          const bool began = first_batch_size_ > 0 && !starting_;
          waiter_.waits_for = began ? LastMissing(rows - taken) : slot.entry.get();
          waiter_.waits_for->waiters.push_back(&waiter_);
          engine_.scheduler.BeginWait(*unstarted_.account);
        }
        ReleaseFinished(garbage, /*needs_next=*/false);
        return taken;
      }
    }
    sink(slot.entry->segment, slot.offset);
    ++taken;
    --remaining_;
    next_index_ += pattern_.stride();  // wraps only after the last row
    slot.place += step;
    if (remaining_ < slots_.size() || slot.offset + Wide{step} >= sequences) {
      finished_.push_back(std::move(slot.entry));
      slot.entry = nullptr;
      slot.offset = pattern_.offset(slot.place);
    } else {
      slot.offset += static_cast<std::uint32_t>(step);
    }
    if (++slot_ == slots_.size()) slot_ = 0;
  }
  const bool ends_start = starting_ && pattern_.count() - remaining_ >= std::min(first_batch_size_, pattern_.count());
  if (ends_start) starting_ = false;
  if (ends_start || !finished_.empty() ||
      (window_is_full_ && pattern_.row(pending_.top().second, pending_.top().first) < Window())) {
    absl::MutexLock lock(&engine_.mutex);
    if (ends_start) engine_.scheduler.EndStart(*unstarted_.account);
    ReleaseFinished(garbage, /*needs_next=*/false);
  }
  return taken;
}

void SequenceReader::Close() {
  Entries garbage;  // freed after the mutex is released
  std::deque<std::shared_ptr<SegmentEntry>> unstarted;
  absl::MutexLock lock(&engine_.mutex);
  if (closed_) return;
  closed_ = true;
  engine_.queue.Remove(&unstarted_);
  if (waiter_.waits_for != nullptr) std::erase(waiter_.waits_for->waiters, &waiter_);
  waiter_.waits_for = nullptr;
  for (Slot& slot : slots_) {
    if (!slot.entry) continue;
    finished_.push_back(std::move(slot.entry));
    slot.entry = nullptr;
  }
  unstarted.swap(unstarted_.entries);
  finished_.insert(finished_.end(), lookahead_.begin(), lookahead_.end());
  lookahead_.clear();
  pending_ = {};
  ReleaseFinished(garbage, /*needs_next=*/false);
}

double SequenceReader::core_seconds() const {
  absl::MutexLock lock(&engine_.mutex);
  return FairScheduler::core_seconds(*unstarted_.account);
}

}  // namespace iterand
