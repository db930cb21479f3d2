#include "server/engine/segment_cache.h"

#include <cstring>
#include <tuple>

namespace iterand {

std::size_t SegmentKeyHash::operator()(const SegmentKey& key) const {
  std::uint64_t hash;
  static_assert(sizeof(hash) <= std::tuple_size_v<Fingerprint>);
  std::memcpy(&hash, key.fingerprint.data(), sizeof(hash));  // of a SHA-256, so any 8 bytes are a hash
  hash ^= (key.segment * 0x9E3779B97F4A7C15U + key.lane + (key.owner << 32)) * 0xD6E8FEB86659FD93U;
  return hash ^ (hash >> 32);
}

std::shared_ptr<SegmentEntry> SegmentCache::Find(const SegmentKey& key) const {
  const auto found = table_.find(key);
  return found == table_.end() ? nullptr : found->second;
}

void SegmentCache::AddHolder(SegmentEntry& entry) {
  ++counters_.hits;
  if (entry.in_cache) cache_.splice(cache_.begin(), cache_, entry.stripe->cache_place);
  ++entry.holders;
}

std::shared_ptr<SegmentEntry> SegmentCache::Insert(const SegmentKey& key, std::shared_ptr<Stripe> stripe,
                                                   std::uint32_t stripe_lane) {
  std::shared_ptr<SegmentEntry>& place = table_[key];
  if (place) place->in_table = false;
  place = std::make_shared<SegmentEntry>();
  place->key = key;
  place->stripe = std::move(stripe);
  place->stripe_lane = stripe_lane;
  place->holders = 1;
  ++counters_.misses;
  ++counters_.queued;
  return place;
}

void SegmentCache::ReleaseHolder(const std::shared_ptr<SegmentEntry>& entry) {
  if (--entry->holders > 0) return;
  switch (entry->GetState()) {
    case SegmentEntry::State::kQueued:
      --counters_.queued;
      Erase(entry);
      break;
    case SegmentEntry::State::kRunning:
      entry->control.Stop();
      Erase(entry);
      break;
    case SegmentEntry::State::kReady:
      if (!entry->in_cache) Erase(entry);
      break;
    case SegmentEntry::State::kFailed:
      break;
  }
}

void SegmentCache::SetRunning(SegmentEntry& entry) {
  entry.state.store(SegmentEntry::State::kRunning, std::memory_order_relaxed);
  --counters_.queued;
}

void SegmentCache::SetReady(const std::shared_ptr<SegmentEntry>& entry, std::shared_ptr<const Segment> segment,
                            bool keep, std::vector<std::shared_ptr<SegmentEntry>>& garbage,
                            std::vector<Callback>& notify) {
  entry->segment = std::move(segment);
  entry->state.store(SegmentEntry::State::kReady, std::memory_order_release);
  if (entry->in_table && keep) AddToCache(entry, garbage);
  ReleaseWaiters(*entry, notify);
}

void SegmentCache::SetFailed(const std::shared_ptr<SegmentEntry>& entry, absl::Status error,
                             std::vector<Callback>& notify) {
  entry->error = std::move(error);
  entry->state.store(SegmentEntry::State::kFailed, std::memory_order_release);
  Erase(entry);
  ReleaseWaiters(*entry, notify);
}

void SegmentCache::ReleaseWaiters(SegmentEntry& entry, std::vector<Callback>& notify) {
  for (SegmentWaiter* waiter : entry.waiters) {
    waiter->waits_for = nullptr;
    notify.push_back(waiter->on_ready);
  }
  entry.waiters.clear();
}

void SegmentCache::Erase(const std::shared_ptr<SegmentEntry>& entry) {
  if (!entry->in_table) return;
  entry->in_table = false;
  table_.erase(SegmentKey(entry->key));  // a copy: the table may hold the last reference to the entry
}

void SegmentCache::AddToCache(const std::shared_ptr<SegmentEntry>& entry,
                              std::vector<std::shared_ptr<SegmentEntry>>& garbage) {
  Stripe& stripe = *entry->stripe;
  if (stripe.buffer.bytes() > capacity_) return;
  if (stripe.in_cache) {
    cache_.splice(cache_.begin(), cache_, stripe.cache_place);
  } else {
    cache_.push_front({entry->stripe, {}});
    stripe.cache_place = cache_.begin();
    stripe.in_cache = true;
    bytes_ += stripe.buffer.bytes();
  }
  stripe.cache_place->entries.push_back(entry);
  entry->in_cache = true;
  while (bytes_ > capacity_) {
    const CachedStripe oldest = std::move(cache_.back());
    cache_.pop_back();
    oldest.stripe->in_cache = false;
    bytes_ -= oldest.stripe->buffer.bytes();
    for (const std::shared_ptr<SegmentEntry>& out : oldest.entries) {
      out->in_cache = false;
      if (out->holders == 0) Erase(out);
      garbage.push_back(out);
    }
  }
}

}  // namespace iterand
