// A consumer of an engine's reader without a network.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/engine/engine.h"

namespace iterand {

// What a reader's callback raises.
class Signal {
 public:
  void Raise() {
    const std::lock_guard lock(mutex_);
    raised_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return raised_; });
    raised_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool raised_ = false;
};

// Waits for a reader's rows.
class Consumer {
 public:
  Consumer(Engine& engine, std::shared_ptr<SharedStream> stream, const SequenceReader::Options& options)
      : reader_(*engine.NewReader(std::move(stream), options, [signal = signal_] { signal->Raise(); })) {}
  Consumer(Engine& engine, std::shared_ptr<SharedStream> stream, std::uint64_t first, std::uint64_t stride,
           std::uint64_t count)
      : Consumer(engine, std::move(stream), {.first = first, .stride = stride, .count = count}) {}

  // The tokens of the next rows, or an error.
  absl::StatusOr<std::string> Read(int rows) {
    std::string bytes;
    const std::size_t row_bytes = reader_->shared_stream().stream().sequence_bytes();
    while (rows > 0) {
      const absl::StatusOr<int> taken =
          reader_->Take(rows, [&](const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
            const std::byte* row = segment->row(offset);
            if (bytes.empty() || row != last_row_ + row_bytes) ++pieces_;
            last_row_ = row;
            bytes.append(reinterpret_cast<const char*>(row), row_bytes);
          });
      if (!taken.ok()) return taken.status();
      rows -= *taken;
      if (rows > 0) Wait();
    }
    return bytes;
  }

  void Wait() {
    signal_->Wait();
    ++waits_;
  }

  SequenceReader& reader() { return *reader_; }

  int waits() const { return waits_; }
  // Pieces of memory that the rows came in.
  int pieces() const { return pieces_; }

 private:
  const std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  const std::unique_ptr<SequenceReader> reader_;
  const std::byte* last_row_ = nullptr;
  int pieces_ = 0;
  int waits_ = 0;
};

inline EngineOptions Options(int threads, std::size_t cache_bytes = 1 << 20, std::size_t readahead_bytes = 1 << 20,
                             std::size_t max_stream_bytes = 16 << 20) {
  EngineOptions options;
  options.threads = threads;
  options.cache_bytes = cache_bytes;
  options.readahead_bytes = readahead_bytes;
  options.max_stream_bytes = max_stream_bytes;
  options.cache_seconds_per_byte = 0;  // keep all
  return options;
}

}  // namespace iterand
