// Feeds: see server/engine.h.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "iterate/index_map.h"
#include "server/engine.h"

namespace iterand {
namespace {

__extension__ using Wide = unsigned __int128;

}  // namespace

std::size_t Feed::KeyHash::operator()(const Key& key) const {
  std::uint64_t hash;
  static_assert(sizeof(hash) <= std::tuple_size_v<Fingerprint>);
  std::memcpy(&hash, key.fingerprint.data(), sizeof(hash));  // of a SHA-256, so any 8 bytes are a hash
  hash ^= (key.segment * 0x9E3779B97F4A7C15U + key.lane) * 0xD6E8FEB86659FD93U;
  return hash ^ (hash >> 32);
}

Feed::Feed(Engine* engine, std::shared_ptr<OpenStream> open, std::function<void()> on_ready)
    : engine_(engine),
      open_(std::move(open)),
      on_ready_(std::make_shared<const std::function<void()>>(std::move(on_ready))) {}

Feed::~Feed() { Close(); }

absl::Status Feed::Start(std::uint64_t first, std::uint64_t stride, std::uint64_t count) {
  const Stream& stream = open_->stream();
  const IndexMap& map = stream.index_map();
  const std::uint64_t sequences = map.segment_sequences();
  if (!IndicesExist(first, stride, count)) {
    return absl::OutOfRangeError(absl::StrCat("the ", count, " sequences from index ", first, " in steps of ", stride,
                                              " go beyond the last index, 2^64 - 1"));
  }
  const LaneCycle cycle = map.Cycle(stride);
  const std::uint64_t period = cycle.lanes;
  stride_ = stride;
  step_ = cycle.place_step;
  common_ = cycle.lane_step;
  count_ = count;
  remaining_ = count;
  next_index_ = first;

  // A segment whose next row lies in another is released at once; otherwise one segment of every slot is in use.
  const std::uint64_t in_use = count <= period || step_ >= sequences ? 1 : period;
  const std::size_t segment_bytes = open_->segment_bytes();
  const std::size_t queue_bytes = engine_->options_.queue_bytes;
  if (Wide{in_use} * segment_bytes > queue_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the stream reads from ", in_use, " lanes at once, whose segments of ", stream.segment_sequences(),
        " sequences take ", segment_bytes, " bytes each, ", in_use * segment_bytes, " in all; this server allows ",
        queue_bytes,
        " bytes a stream (--queue): use a larger world, or a recipe with fewer lanes or smaller segment_sequences"));
  }
  const std::size_t ahead =
      std::min(queue_bytes, std::max(engine_->options_.prefetch_bytes, 2 * in_use * segment_bytes));
  max_bytes_ = std::max<std::size_t>(in_use * segment_bytes, ahead);
  in_use_bytes_ = in_use * segment_bytes;
  striped_ = step_ == 1 && in_use > 1 && Wide{period} * sequences <= count;

  const std::uint64_t slots = std::min(period, count);
  slots_.resize(slots);
  for (std::uint64_t j = 0; j < slots; ++j) {
    const std::uint64_t index = first + j * stride;
    slots_[j].lane = map.Lane(index);
    slots_[j].first_place = slots_[j].place = map.Place(index);
    slots_[j].offset = map.Offset(slots_[j].place);
    wants_.emplace(0, static_cast<std::uint32_t>(j));
  }

  std::lock_guard lock(engine_->mutex_);
  closed_ = false;
  engine_->feeds_.push_back(this);
  Refill(/*must=*/false);
  return absl::OkStatus();
}

std::uint32_t Feed::StripeLanes(const Slot& slot, std::uint64_t round) const {
  if (!striped_) return 1;
  const IndexMap& map = open_->stream().index_map();
  const std::uint64_t sequences = map.segment_sequences();
  const std::uint64_t lanes = slots_.size();
  // Our rows from here on in the segments of this number. If they are fewer than lanes, some lanes are not read.
  const std::uint64_t before = map.Offset(slot.first_place + round) * lanes + slot.lane / common_;
  const std::uint64_t row = round * lanes + static_cast<std::uint64_t>(&slot - slots_.data());
  return std::min(sequences * lanes - before, count_ - row) < lanes ? 1 : static_cast<std::uint32_t>(lanes);
}

std::shared_ptr<Feed::Entry> Feed::Acquire(const Slot& slot, std::uint64_t round, bool must) {
  const Stream& stream = open_->stream();
  const Key key{stream.fingerprint(), slot.lane, stream.index_map().Segment(slot.first_place + round * step_)};
  std::shared_ptr<Entry> entry;
  if (const auto found = engine_->table_.find(key); found != engine_->table_.end()) entry = found->second;
  // What others have generated may lie in stripes of any size, so room is left for what has to be held at once in
  // memory of our own: a row that is due can always be had, by having its segment generated once more if need be.
  if (entry && (stripes_.contains(entry->stripe.get()) ||
                held_bytes_ + entry->stripe->memory.bytes() + in_use_bytes_ <= max_bytes_)) {
    engine_->Join(*entry);
  } else {
    if (entry && !must) return nullptr;
    std::shared_ptr<Stripe> stripe = stripe_segment_ == key.segment ? stripe_ : nullptr;
    if (!stripe) {
      const std::uint32_t lanes = StripeLanes(slot, round);
      if (held_bytes_ + lanes * open_->segment_bytes() > max_bytes_) return nullptr;
      stripe = std::make_shared<Stripe>(open_->pool_, lanes);
      if (lanes > 1) {
        stripe_ = stripe;
        stripe_segment_ = key.segment;
      }
    }
    const auto stripe_lane = stripe == stripe_ ? static_cast<std::uint32_t>(slot.lane / common_) : 0;
    entry = engine_->Add(key, std::move(stripe), stripe_lane);
  }
  if (stripes_[entry->stripe.get()]++ == 0) held_bytes_ += entry->stripe->memory.bytes();
  return entry;
}

void Feed::Refill(bool must) {
  const IndexMap& map = open_->stream().index_map();
  const bool was_idle = todo_.empty() && account_->running == 0;
  int added = 0;
  while (!wants_.empty()) {
    const auto [round, j] = wants_.top();
    const Slot& slot = slots_[j];
    std::shared_ptr<Entry> entry = Acquire(slot, round, must && ahead_.empty());
    if (!entry) break;
    wants_.pop();
    const std::uint64_t segment = entry->key.segment;
    ahead_.push_back(std::move(entry));
    if (ahead_.back()->state.load(std::memory_order_relaxed) == State::kQueued) {
      todo_.push_back(ahead_.back());
      ++added;
    }
    const std::optional<std::uint64_t> next_round = map.StepsBeyond(segment, slot.first_place, step_);
    if (next_round && Wide{*next_round} * slots_.size() + j < count_) wants_.emplace(*next_round, j);
  }
  engine_->stats_.largest_held_bytes = std::max<std::uint64_t>(engine_->stats_.largest_held_bytes, held_bytes_);
  if (added > 0) {
    // Who comes back from idleness has no claim on the time it did not use.
    if (was_idle) account_->virtual_time = std::max(account_->virtual_time, engine_->virtual_time_);
    engine_->WakeThreads(added);
  }
}

void Feed::LetGo(std::vector<std::shared_ptr<Entry>>& garbage, bool must) {
  for (std::shared_ptr<Entry>& entry : done_) {
    const auto stripe = stripes_.find(entry->stripe.get());
    if (--stripe->second == 0) {
      held_bytes_ -= entry->stripe->memory.bytes();
      if (entry->stripe == stripe_) stripe_ = nullptr;
      stripes_.erase(stripe);
    }
    engine_->Drop(entry);
    garbage.push_back(std::move(entry));
  }
  done_.clear();
  Refill(must);
}

absl::StatusOr<int> Feed::Take(int rows, Sink sink) {
  const IndexMap& map = open_->stream().index_map();
  std::vector<std::shared_ptr<Entry>> garbage;  // freed after the lock is
  int taken = 0;
  while (taken < rows && remaining_ > 0) {
    Slot& slot = slots_[slot_];
    if (!slot.entry) {
      if (ahead_.empty()) {  // all that may be held has been taken
        std::lock_guard lock(engine_->mutex_);
        LetGo(garbage, /*must=*/true);
      }
      slot.entry = std::move(ahead_.front());
      ahead_.pop_front();
    }
    if (slot.entry->state.load(std::memory_order_acquire) != State::kReady) {
      std::lock_guard lock(engine_->mutex_);
      const State state = slot.entry->state.load(std::memory_order_relaxed);
      if (state == State::kFailed) return slot.entry->error;
      if (state != State::kReady) {
        if (waiting_for_ != slot.entry) {
          slot.entry->waiters.push_back(this);
          waiting_for_ = slot.entry;
        }
        LetGo(garbage, /*must=*/false);
        return taken;
      }
    }
    sink(slot.entry->segment, slot.offset);
    ++taken;
    --remaining_;
    next_index_ += stride_;  // wraps only after the last row
    slot.place += step_;
    if (remaining_ < slots_.size() || slot.offset + Wide{step_} >= map.segment_sequences()) {
      done_.push_back(std::move(slot.entry));
      slot.entry = nullptr;
      slot.offset = map.Offset(slot.place);
    } else {
      slot.offset += static_cast<std::uint32_t>(step_);
    }
    if (++slot_ == slots_.size()) slot_ = 0;
  }
  if (!done_.empty()) {
    std::lock_guard lock(engine_->mutex_);
    LetGo(garbage, /*must=*/false);
  }
  return taken;
}

void Feed::Close() {
  std::vector<std::shared_ptr<Entry>> garbage;
  std::deque<std::shared_ptr<Entry>> todo;
  std::lock_guard lock(engine_->mutex_);
  if (closed_) return;
  closed_ = true;
  std::erase(engine_->feeds_, this);
  if (waiting_for_) std::erase(waiting_for_->waiters, this);
  waiting_for_ = nullptr;
  todo.swap(todo_);
  done_.insert(done_.end(), ahead_.begin(), ahead_.end());
  ahead_.clear();
  for (Slot& slot : slots_) {
    if (slot.entry) done_.push_back(std::move(slot.entry));
    slot.entry = nullptr;
  }
  wants_ = {};
  LetGo(garbage, /*must=*/false);
}

double Feed::core_seconds() const {
  std::lock_guard lock(engine_->mutex_);
  return account_->core_seconds;
}

}  // namespace iterand
