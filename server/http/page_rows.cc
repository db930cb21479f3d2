#include "server/http/page_rows.h"

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

using Clock = std::chrono::steady_clock;

// What wakes the waiting thread. The engine's threads may call it after the wait is over.
struct Wake {
  std::mutex mutex;
  std::condition_variable changed;
  bool ready = false;
  bool cancelled = false;
};

void Set(Wake& wake, bool Wake::*what) {
  {
    const std::lock_guard lock(wake.mutex);
    wake.*what = true;
  }
  wake.changed.notify_all();
}

}  // namespace

absl::StatusOr<PageRows> ReadPageRows(Engine& engine, const std::shared_ptr<SharedStream>& open, const PageRange& range,
                                      std::chrono::milliseconds patience, HttpExchange& exchange) {
  const Clock::time_point begin = Clock::now();
  const std::size_t row_bytes = range.tokens * DtypeBytes(open->stream().dtype());
  PageRows rows;
  rows.tokens.resize(range.count * row_bytes);
  rows.provenance.resize(range.count);
  std::vector<std::uint64_t> indices(range.count);
  for (std::size_t i = 0; i < range.count; ++i) indices[i] = range.first + i;

  const auto wake = std::make_shared<Wake>();
  absl::StatusOr<std::unique_ptr<IndexReader>> reader =
      engine.NewIndexReader(open, indices, [wake] { Set(*wake, &Wake::ready); });
  if (!reader.ok()) return reader.status();
  exchange.OnCancel([wake] { Set(*wake, &Wake::cancelled); });
  absl::Status status;
  for (;;) {
    const absl::StatusOr<bool> done =
        (*reader)->Take([&](std::size_t row, const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
          std::memcpy(rows.tokens.data() + row * row_bytes, segment->row(offset), row_bytes);
          rows.provenance[row] = segment->provenance[offset];
        });
    if (!done.ok()) status = done.status();
    if (!done.ok() || *done) break;
    std::unique_lock lock(wake->mutex);
    const bool in_time =
        wake->changed.wait_until(lock, begin + patience, [&] { return wake->ready || wake->cancelled; });
    if (wake->cancelled) status = absl::CancelledError("the request was given up");
    if (!in_time) {
      status = absl::DeadlineExceededError(absl::StrCat("the sequences were not ready within ", patience.count() / 1000,
                                                        " s: the recipe is expensive, or the server is busy"));
    }
    if (!status.ok()) break;
    wake->ready = false;
  }
  exchange.OnCancel(nullptr);
  (*reader)->Close();
  if (!status.ok()) return status;
  rows.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return rows;
}

}  // namespace iterand
