#include "server/engine/run_queue.h"

#include <algorithm>

namespace iterand {
namespace {

bool IsQueued(const std::shared_ptr<SegmentEntry>& entry) { return entry->GetState() == SegmentEntry::State::kQueued; }

}  // namespace

void RunQueue::Add(PendingSegments* segments) {
  if (std::find(segments_.begin(), segments_.end(), segments) == segments_.end()) segments_.push_back(segments);
}

RunQueue::Choice RunQueue::ChooseSegment(const FairScheduler& scheduler) {
  // Removes entries that were begun for another reader, and lists without other entries.
  std::erase_if(segments_, [](PendingSegments* segments) {
    while (!segments->entries.empty() && !IsQueued(segments->entries.front())) segments->entries.pop_front();
    return segments->entries.empty();
  });
  Choice best;
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const PendingSegments& segments = *segments_[i];
    if (best.account != nullptr && !scheduler.IsBefore(*segments.account, *best.account)) continue;
    std::size_t place = 0;
    if (segments.stream->serial_lanes()) {
      const auto& entries = segments.entries;
      while (place < entries.size() &&
             (!IsQueued(entries[place]) || segments.stream->IsBusy(entries[place]->key.lane))) {
        ++place;
      }
      if (place == entries.size()) continue;
    }
    best = {.kind = Kind::kSegment, .index = i, .place = place, .account = segments.account.get()};
  }
  return best;
}

RunQueue::Choice RunQueue::Choose(const FairScheduler& scheduler) {
  Choice best = ChooseSegment(scheduler);
  const FairScheduler::Account* const reader = best.account;
  const SharedStream* const full = best.kind == Kind::kSegment && !segments_[best.index]->stream->HasWorkspace()
                                       ? segments_[best.index]->stream.get()
                                       : nullptr;
  // Segments in progress are preferred to others of the same account.
  const auto consider_task = [&](Kind kind, std::size_t index, const SegmentTask& task) {
    const FairScheduler::Account* account = task.account().get();
    if (task.stream().get() == full && scheduler.IsBefore(*reader, *account)) account = reader;
    if (best.cancelled ||
        (!task.cancelled() && best.account != nullptr && scheduler.IsBefore(*best.account, *account))) {
      return;
    }
    if (!task.cancelled() && best.kind != Kind::kNone && best.kind != Kind::kSegment &&
        !scheduler.IsBefore(*account, *best.account)) {
      return;
    }
    best = {.kind = kind, .index = index, .account = account, .cancelled = task.cancelled()};
  };
  for (std::size_t i = 0; i < unfinished_.size(); ++i) consider_task(Kind::kUnfinished, i, unfinished_[i]);
  for (std::size_t i = 0; i < paused_.size(); ++i) consider_task(Kind::kPaused, i, *paused_[i]->task);
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const FairScheduler::Account* const account = pieces_[i]->account.get();
    if (best.cancelled || (best.account != nullptr && !scheduler.IsBefore(*account, *best.account))) continue;
    best = {.kind = Kind::kPiece, .index = i, .account = account};
  }
  return best;
}

bool RunQueue::HasWork(const FairScheduler& scheduler) { return Choose(scheduler).kind != Kind::kNone; }

bool RunQueue::HasBefore(const FairScheduler& scheduler, const FairScheduler::Account& account) {
  const Choice choice = Choose(scheduler);
  if (choice.kind == Kind::kNone) return false;
  // Segments in progress of its stream would run in its place, and those that wait do not come before `account`.
  if (choice.kind == Kind::kSegment && !segments_[choice.index]->stream->HasWorkspace()) return false;
  return choice.cancelled || scheduler.IsBefore(*choice.account, account);
}

RunQueue::Work RunQueue::Take(const FairScheduler& scheduler) {
  const Choice choice = Choose(scheduler);
  const auto at = static_cast<std::ptrdiff_t>(choice.index);
  switch (choice.kind) {
    case Kind::kNone:
      return std::monostate();
    case Kind::kSegment: {
      PendingSegments& segments = *segments_[choice.index];
      const auto place = segments.entries.begin() + static_cast<std::ptrdiff_t>(choice.place);
      SegmentTask task(segments.account, segments.stream, std::move(*place));
      segments.entries.erase(place);
      return task;
    }
    case Kind::kUnfinished: {
      SegmentTask task = std::move(unfinished_[choice.index]);
      unfinished_.erase(unfinished_.begin() + at);
      return task;
    }
    case Kind::kPaused: {
      PausedTask* const paused = paused_[choice.index];
      paused_.erase(paused_.begin() + at);
      return paused;
    }
    case Kind::kPiece: {
      PendingPiece* const waiting = pieces_[choice.index];
      pieces_.erase(pieces_.begin() + at);
      return PendingPiece{waiting->account, std::exchange(waiting->piece, nullptr)};
    }
  }
  return std::monostate();
}

PausedTask* RunQueue::TakePaused() {
  if (paused_.empty()) return nullptr;
  PausedTask* const paused = paused_.back();
  paused_.pop_back();
  return paused;
}

}  // namespace iterand
