// Where a command's sequences and descriptions come from: this process, or a server. Both begin with the same request
// and give the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/cli/server_options.h"
#include "clients/cli/stream_options.h"
#include "iterand/types.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/plan.h"
#include "iterate/stream.h"

namespace iterand::cli {

// The engine version, the presets and the families, of this program or of the server.
absl::StatusOr<v1::DescribeResponse> DescribeServer(const ServerChoice& server);

// What is known about a stream before its first sequence. Shares and cost of a mixture are those at one index.
struct StreamFacts {
  std::uint32_t engine_version = 0;
  v1::StreamInfo info;
  Dtype dtype = Dtype::kUint8;
  std::shared_ptr<const StreamPlan> plan;  // null if a server described the stream

  int length() const { return static_cast<int>(info.recipe().length()); }
  bool has_loss_mask() const { return info.recipe().loss_mask(); }
  std::size_t sequence_bytes() const { return static_cast<std::size_t>(length()) * DtypeBytes(dtype); }
};

// Describes a stream as it is at index `at`. Errors: NotFound or InvalidArgument for a recipe that does not exist or is
// faulty; Unavailable for a server that does not answer.
absl::StatusOr<StreamFacts> DescribeStream(const StreamChoice& stream, const ServerChoice& server,
                                           std::uint64_t at = 0);

// The stream itself, in this process. Errors: as DescribeStream.
absl::StatusOr<std::shared_ptr<Stream>> OpenLocal(const StreamChoice& stream,
                                                  const std::shared_ptr<const SnapshotFolder>& snapshots = nullptr);

// Some rows of a stream. Row i is the sequence with index first_index + i * stride.
struct RowBatch {
  std::uint64_t first_index = 0;
  std::uint64_t stride = 1;
  int rows = 0;
  std::span<const std::byte> tokens;     // rows x length, row-major, little-endian; valid until the next Next
  std::span<const std::byte> loss_mask;  // rows x length bytes if the stream has masks, else empty; likewise
  std::span<const std::uint8_t> parts;   // of a mixture: one per row, as numbered in StreamInfo.parts; else empty
  std::vector<Provenance> provenance;    // one per row, if it was asked for
  // The first batches of a source that generates here: the next rows need new segments, which may take long.
  bool pause_follows = false;
};

// Reads a range of a stream in order.
class SequenceSource {
 public:
  struct Options {
    int threads = 0;  // for generation in this process; 0: all cores
    bool provenance = false;
    // Where an endless pool that is generated in this process is saved; null: nowhere.
    std::shared_ptr<const SnapshotFolder> snapshots = nullptr;
  };

  // Errors: InvalidArgument or NotFound for a request that cannot be met (recipe, rank, length), with what would be
  // right; Unavailable for a server that does not answer.
  static absl::StatusOr<std::unique_ptr<SequenceSource>> Open(const StreamChoice& stream, const RangeChoice& range,
                                                              const ServerChoice& server, const Options& options);
  virtual ~SequenceSource() = default;

  const StreamFacts& facts() const { return facts_; }

  // Reads the next rows and returns true. Returns false after the last ones, with status() OK, and for an error, which
  // is status().
  [[nodiscard]] virtual bool Next(RowBatch& batch) = 0;
  const absl::Status& status() const { return status_; }

 protected:
  explicit SequenceSource(StreamFacts facts) : facts_(std::move(facts)) {}

  bool Fail(absl::Status status) {
    status_ = std::move(status);
    return false;
  }

 private:
  StreamFacts facts_;
  absl::Status status_;
};

}  // namespace iterand::cli
