// Where a command's sequences come from: this process, or a server. Both give the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/cli/dtype.h"
#include "clients/cpp/client.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/segment.h"
#include "iterate/stream.h"

namespace iterand::cli {

// How to reach a server: the options that every command with --server has.
struct ServerChoice {
  std::string address;  // empty: no server, generate in-process
  std::string ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_server_name;
  std::string token_file;
  bool tls = false;
  double connect_timeout = 3;  // seconds

  void AddTo(CLI::App& command);
  absl::StatusOr<std::unique_ptr<Client>> Connect() const;
  // The error of a call, with the server's address and the option to use where the message alone does not say so.
  absl::Status Named(const absl::Status& status) const;
};

// The options that name a stream.
struct StreamChoice {
  std::string recipe;  // a preset's name or a JSON file
  std::uint64_t seed = 0;
  std::optional<std::uint32_t> length;
  bool loss_mask = false;  // ask for loss masks, whether or not the recipe does

  // The recipe is the option --recipe or, if `positional`, also the positional argument RECIPE, without a default.
  void AddTo(CLI::App& command, bool positional);
};

// The options that name some of its sequences: indices g >= start with g mod world_size = rank, in order, `count` of
// them. The option --count is each command's own.
struct RangeChoice {
  std::uint64_t start = 0;
  std::uint64_t count = 0;
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;

  void AddTo(CLI::App& command);
};

// Everything that is known about a stream before its first sequence: engine version, resolved recipe, seed,
// fingerprint, dtype, cost. From the server, if one is chosen. Shares and cost of a mixture are those at index `at`.
// Errors: NotFound or InvalidArgument for a recipe that does not exist or is wrong.
struct StreamFacts {
  std::uint32_t engine_version = 0;
  v1::StreamInfo info;
  std::shared_ptr<const StreamPlan> plan;  // null if a server was asked
};
absl::StatusOr<StreamFacts> DescribeStream(const StreamChoice& stream, const ServerChoice& server,
                                           std::uint64_t at = 0);

// The stream itself, in this process. Errors as DescribeStream.
absl::StatusOr<std::shared_ptr<Stream>> OpenLocal(const StreamChoice& stream,
                                                  const std::shared_ptr<const SnapshotFolder>& snapshots = nullptr);

// Some rows of a stream. Row i is the sequence with index first_index + i * stride.
struct RowBatch {
  std::uint64_t first_index = 0;
  std::uint64_t stride = 1;
  int rows = 0;
  std::span<const std::byte> tokens;       // rows x length, row-major, little-endian; valid until the next Next
  std::span<const std::byte> loss_mask;    // rows x length bytes if the stream has masks, else empty; likewise
  std::span<const std::uint8_t> parts;     // one per row if the recipe is a mixture, as numbered in StreamInfo.parts
  std::vector<v1::Provenance> provenance;  // one per row, if requested
  // At the start of a source that generates here: the next rows take new segments, which may take long.
  bool pause_follows = false;
};

// Reads a range of a stream in order.
class SequenceSource {
 public:
  struct Options {
    int threads = 0;  // for generation in this process; 0: all cores
    bool provenance = false;
    // Where an endless pool that is generated in this process is kept; null: nowhere.
    std::shared_ptr<const SnapshotFolder> snapshots = nullptr;
  };

  // Errors: InvalidArgument or NotFound for a request that cannot be met (recipe, world_size, length), with what would
  // be right; Unavailable for a server that does not answer.
  static absl::StatusOr<std::unique_ptr<SequenceSource>> Open(const StreamChoice& stream, const RangeChoice& range,
                                                              const ServerChoice& server, const Options& options);
  virtual ~SequenceSource() = default;

  const StreamFacts& facts() const { return facts_; }
  Dtype dtype() const;
  int length() const { return static_cast<int>(facts_.info.recipe().length()); }
  bool has_loss_mask() const { return facts_.info.recipe().loss_mask(); }
  std::size_t sequence_bytes() const { return static_cast<std::size_t>(length()) * DtypeBytes(dtype()); }

  // The next rows, or false after the last.
  virtual absl::StatusOr<bool> Next(RowBatch& batch) = 0;

 protected:
  explicit SequenceSource(StreamFacts facts) : facts_(std::move(facts)) {}

 private:
  StreamFacts facts_;
};

// Of a stream whose description has one.
Dtype FromProto(v1::Dtype dtype);

}  // namespace iterand::cli
