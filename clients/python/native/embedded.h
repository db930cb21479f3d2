// Streams made in this process, on the engine of Runtime: what the native module offers to Python, without Python.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/python/native/runtime.h"
#include "iterand/v1/noise_service.pb.h"
#include "server/engine/index_reader.h"
#include "server/engine/sequence_reader.h"

namespace iterand::python {

// `rows` sequences, in memory that may be written to and that `owner` keeps alive.
struct Rows {
  std::uint64_t first_index = 0;
  std::size_t rows = 0;
  std::byte* tokens = nullptr;
  std::shared_ptr<void> owner;
  std::shared_ptr<std::vector<std::uint8_t>> loss_mask;  // rows x length, 0 or 1; null if the stream has none
  std::shared_ptr<std::vector<std::uint8_t>> parts;  // one per row, RowProvenance::part; null if it is not a mixture
  std::vector<RowProvenance> provenance;             // one per row, if asked for
};

// An open stream. Thread-safe.
class EmbeddedStream final : public Session {
 public:
  // Errors: as NamedRecipe, Stream::Open and CheckFingerprint.
  static absl::StatusOr<std::shared_ptr<EmbeddedStream>> Open(const v1::StreamSpec& spec);
  ~EmbeddedStream();
  EmbeddedStream(const EmbeddedStream&) = delete;
  EmbeddedStream& operator=(const EmbeddedStream&) = delete;

  // Also after End.
  Fingerprint fingerprint() const { return fingerprint_; }
  Dtype dtype() const { return dtype_; }
  int length() const { return length_; }
  int lanes() const { return lanes_; }
  std::size_t sequence_bytes() const { return static_cast<std::size_t>(length_) * DtypeBytes(dtype_); }
  bool has_loss_mask() const { return has_loss_mask_; }
  bool is_mixture() const { return !part_names_.empty(); }
  // Of a row of this stream: the family that made it last, and the part of a mixture, empty if the recipe is none.
  const std::string& family_name(const RowProvenance& row) const { return families_[row.part][row.family]; }
  const std::string& part_name(const RowProvenance& row) const;

  // Errors: as Stream::Explain; Cancelled after `most_seconds` of core time.
  absl::StatusOr<Explanation> Explain(std::uint64_t index, std::optional<double> most_seconds);
  // The answer to Describe of this stream, with shares and cost of a mixture at index `at`.
  absl::StatusOr<v1::DescribeResponse> Describe(std::uint64_t at);

  void End() override;

 private:
  friend class EmbeddedReader;
  friend class EmbeddedRead;

  EmbeddedStream() = default;

  // Opens the stream in this process, if it is not open yet. Needs a Use. Errors: as Open; Cancelled after
  // Runtime::Stop.
  absl::Status Attach();
  void Detach();

  v1::Recipe recipe_;
  std::uint64_t seed_ = 0;
  Fingerprint fingerprint_{};
  Dtype dtype_ = Dtype::kUint8;
  int length_ = 0;
  int lanes_ = 0;
  bool has_loss_mask_ = false;
  std::vector<std::vector<std::string>> families_;  // by RowProvenance::part and RowProvenance::family
  std::vector<std::string> part_names_;             // by RowProvenance::part; empty if the recipe is not a mixture
  bool added_ = false;                              // to the runtime

  // No thread holds it at a fork, since it is taken in a Use. What it guards only changes after a fork and at the end.
  std::mutex mutex_;
  std::uint64_t forks_ = 0;         // Runtime::forks when it was attached
  std::shared_ptr<Engine> engine_;  // null: not attached
  std::shared_ptr<SharedStream> shared_;
};

// The sequences first, first + stride, ... in batches. One thread at a time.
class EmbeddedReader final : public Session {
 public:
  struct Options {
    std::uint64_t first = 0;
    std::uint64_t stride = 1;
    std::uint64_t count = 0;
    std::size_t batch_size = 0;  // at least 1
    bool provenance = false;
  };

  // Errors: as SequenceReader::Open.
  static absl::StatusOr<std::unique_ptr<EmbeddedReader>> Open(std::shared_ptr<EmbeddedStream> stream,
                                                              const Options& options);
  ~EmbeddedReader();
  EmbeddedReader(const EmbeddedReader&) = delete;
  EmbeddedReader& operator=(const EmbeddedReader&) = delete;

  // The next batch, or nothing if it is not ready yet: then Wait. A batch without rows is the end. After an error, or
  // in a forked child, the next call begins again at the batch that would have come.
  absl::StatusOr<std::optional<Rows>> Poll();

  // Waits until Poll may have more. Without a Use.
  void Wait(std::chrono::milliseconds most) { signal_->Wait(most); }

  std::uint64_t next_index() const { return next_; }  // of the first row that the next batch will have

  // Makes Poll return the end, and wakes the waiting thread. From any thread.
  void Close();
  // Drops what it has requested and stops its generation. Not while another thread is in Poll.
  void Release();

  void End() override;

 private:
  EmbeddedReader(std::shared_ptr<EmbeddedStream> stream, const Options& options);

  // These need a Use.
  absl::Status Attach();
  void Detach();
  void AddRow(const std::shared_ptr<const Segment>& segment, std::uint32_t offset);
  void MoveToOwnMemory();
  Rows Finish();

  const std::shared_ptr<EmbeddedStream> stream_;
  const Options options_;
  std::uint64_t next_;       // the first row's index of the batch in work
  std::uint64_t remaining_;  // rows from there on
  std::atomic<bool> closed_{false};
  bool added_ = false;  // to the runtime

  std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  std::uint64_t forks_ = 0;
  std::unique_ptr<SequenceReader> reader_;  // null: not attached

  // The batch in progress. Its rows are one piece of a stripe's memory as long as that is possible, else a copy.
  std::size_t wanted_ = 0;
  Rows batch_;
  bool own_memory_ = false;
};

// The sequences of a list of indices. One thread at a time.
class EmbeddedRead final : public Session {
 public:
  // Errors: as IndexReader::Open.
  static absl::StatusOr<std::unique_ptr<EmbeddedRead>> Open(std::shared_ptr<EmbeddedStream> stream,
                                                            std::span<const std::uint64_t> indices, bool provenance);
  ~EmbeddedRead();
  EmbeddedRead(const EmbeddedRead&) = delete;
  EmbeddedRead& operator=(const EmbeddedRead&) = delete;

  // Takes the rows that are ready. Nothing if some are missing: then Wait.
  absl::StatusOr<std::optional<Rows>> Poll();
  void Wait(std::chrono::milliseconds most) { signal_->Wait(most); }

  void End() override;

 private:
  EmbeddedRead() = default;

  bool added_ = false;  // to the runtime
  std::shared_ptr<EmbeddedStream> stream_;
  std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  std::uint64_t forks_ = 0;
  std::unique_ptr<IndexReader> reader_;
  Rows rows_;
};

}  // namespace iterand::python
