// A stream of structured noise, generated in this process. No server is needed.
//
//   absl::StatusOr<iterand::LocalStream> stream = iterand::LocalStream::Open({.recipe = "up", .seed = 1});
//   if (!stream.ok()) return stream.status();
//   std::vector<std::byte> tokens(64 * stream->info().sequence_bytes());
//   for (std::uint64_t index = 0;; index += 64) {
//     absl::Status status = stream->Read({.first_index = index, .rows = 64}, tokens);
//     if (!status.ok()) return status;
//     Train(tokens);
//   }
//
// Any index may be read at any time: to resume, read from the index that was saved. The bits are those that a server
// of the same engine version sends (iterand/client.h).
//
// Rank r of a world of W ranks reads first_index = r, r + 64 * W, ... with stride W. If W divides info().lanes, no
// segment is generated twice.
//
// Needs a processor with AVX2 and FMA (x86-64-v3), or AArch64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/types.h"

namespace iterand {

struct LocalStreamOptions {
  // Threads that generate. 0: all cores.
  int threads = 0;

  // A folder where the state of an endless pool (such as `up-paper`) is saved from time to time. Without it, reading
  // such a stream from the middle in a new process generates everything before. Other streams ignore it. The folder is
  // created if it is missing. Several processes may share it. Empty: nothing is saved.
  std::string snapshot_dir = {};

  // Most bytes that the folder may hold: the oldest snapshots make room.
  std::uint64_t max_snapshot_bytes = std::numeric_limits<std::uint64_t>::max();
};

// Can be moved. Thread-safe, but one read at a time does its work.
class LocalStream {
 public:
  // Resolves and checks the recipe. Nothing is generated yet. Errors:
  //   NotFound            no preset of that name (the message lists all), or no file at that path
  //   InvalidArgument     a faulty recipe, with the file, the path of the field, its value and what is allowed
  //   FailedPrecondition  the stream does not have spec.expected_fingerprint
  static absl::StatusOr<LocalStream> Open(const StreamSpec& spec, const LocalStreamOptions& options = {});

  LocalStream(LocalStream&&) noexcept;
  LocalStream& operator=(LocalStream&&) noexcept;
  ~LocalStream();

  const StreamInfo& info() const;

  // Writes the tokens of range.rows sequences to `tokens`, row by row. All memory is the caller's:
  //   tokens      at least rows * info().sequence_bytes()
  //   loss_mask   empty, or at least rows * info().length. Set to 1 where a token is to be predicted, else to 0. All
  //               rows may be 0 everywhere. Only for a stream with info().loss_mask.
  //   provenance  empty, or at least `rows`
  // The segments that are read last stay in memory, so reading in order generates each segment once.
  // Errors:
  //   InvalidArgument     rows or stride is below 1, memory is too small, or there are no loss masks
  //   OutOfRange          an index exceeds 2^64 - 1, or an endless pool would have to generate too much before it
  //   FailedPrecondition  the recipe's filters let nothing through
  absl::Status Read(const IndexRange& range, std::span<std::byte> tokens, std::span<std::uint8_t> loss_mask = {},
                    std::span<Provenance> provenance = {});

 private:
  struct Impl;
  explicit LocalStream(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace iterand
