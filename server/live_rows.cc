#include "server/live_rows.h"

#include <algorithm>
#include <utility>

namespace iterand {

LiveRows::Picks LiveRows::Pick(int rows) {
  const Clock::rep until = until_.load(std::memory_order_relaxed);
  if (until == 0 || room_.load(std::memory_order_relaxed) <= 0) return {};
  if (Clock::now().time_since_epoch().count() > until) {
    until_.store(0, std::memory_order_relaxed);
    return {};
  }
  const int step = (rows + kRowsPerBatch - 1) / kRowsPerBatch;
  // Steps of the golden ratio: all lanes have their turn.
  const std::uint32_t pick = picks_.fetch_add(1, std::memory_order_relaxed) * 2654435769U;
  return {static_cast<int>((std::uint64_t{pick} * static_cast<std::uint64_t>(step)) >> 32), step};
}

void LiveRows::Offer(const Stream& stream, std::uint64_t index, const Segment& segment, std::uint32_t offset) {
  if (room_.fetch_sub(1, std::memory_order_relaxed) <= 0) return;
  const RowProvenance& from = segment.provenance[offset];
  const std::size_t bytes = std::min(stream.sequence_bytes(), kTokens * DtypeBytes(stream.dtype()));
  Row row{.index = index,
          .stream = ToHex(stream.fingerprint()).substr(0, 8),
          .part = stream.part_names().empty() ? std::string() : stream.part_names()[from.part],
          .family = stream.family_name(from),
          .depth = from.depth,
          .dtype = stream.dtype(),
          .tokens = std::string(reinterpret_cast<const char*>(segment.row(offset)), bytes)};
  const std::lock_guard lock(mutex_);
  row.number = ++taken_;
  rows_.push_back(std::move(row));
  if (rows_.size() > kRows) rows_.pop_front();
}

std::vector<LiveRows::Row> LiveRows::Look() {
  until_.store((Clock::now() + kWatch).time_since_epoch().count(), std::memory_order_relaxed);
  room_.store(static_cast<int>(kRows), std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  return {rows_.begin(), rows_.end()};
}

}  // namespace iterand
