// Writes v1.Batch messages straight into gRPC buffers.
//
// A message is a small header, then the tag and length of field 15, then the tokens. The generated class makes the
// header from all fields except the tokens. The bytes sent are exactly the serialised message, but no token passes
// through a message object. Rows that are contiguous in memory (server/engine/stripe_buffer.h), or long, are sent from
// where they are, and the message keeps that memory alive. Other rows are copied once, from their segments into the
// buffer that gRPC sends. Rows are also copied if referencing them would make the message keep more than twice its own
// size plus one segment of each lane. Buffers are used again as soon as gRPC has sent them, so that tokens go through
// memory that is already in the processor's cache.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/stream.h"

namespace iterand {

class BatchBuilder {
 public:
  // `part_names` are those of a mixture's parts as this client names them; empty: as the client did that opened the
  // stream.
  BatchBuilder(const Stream& stream, bool provenance, std::vector<std::string> part_names = {});
  ~BatchBuilder();
  BatchBuilder(const BatchBuilder&) = delete;
  BatchBuilder& operator=(const BatchBuilder&) = delete;

  // An upper bound of the size of a message of this many rows, in bytes.
  std::size_t MessageBytes(std::uint64_t rows) const;

  // What a row takes, for error messages: "512 bytes of tokens, 512 of its mask, 1 of its part, up to 52
  // of its provenance".
  std::string RowParts() const;

  // The most rows whose message is certain to fit this many bytes; may be 0.
  std::uint64_t MaxRows(std::size_t message_bytes) const;

  // Begins a message of exactly `rows` rows. MessageBytes(rows) must be below 2^31.
  void Begin(std::uint64_t first_index, std::uint64_t stride, int rows);
  bool begun() const { return rows_ > 0; }

  // Rows that are still missing.
  int missing() const { return rows_ - added_; }

  // Adds the next row.
  void Add(const std::shared_ptr<const Segment>& segment, std::uint32_t offset);

  // The message; nothing may be missing. Begin then starts another.
  grpc::ByteBuffer Finish();

 private:
  class BufferPool;

  // Rows that are contiguous in memory.
  struct Run {
    std::shared_ptr<const Segment> segment;  // of the first
    const std::byte* data = nullptr;
    std::size_t bytes = 0;
  };
  static constexpr std::size_t kRunsAhead = 4;

  bool MayKeep(const Segment& segment);
  void Write(Run& run);
  void FlushCopied();

  const Stream& stream_;
  const bool with_provenance_;
  std::vector<std::string> part_names_;
  const std::size_t row_bytes_;
  const std::size_t mask_bytes_;      // per row
  const std::size_t part_bytes_;      // per row
  std::size_t provenance_bytes_ = 0;  // upper bound per row
  v1::Batch header_;
  int rows_ = 0;
  int added_ = 0;

  // The latest runs, number i at place i mod kRunsAhead. They wait to be copied or referenced while they are
  // prefetched.
  std::array<Run, kRunsAhead> runs_;
  std::size_t first_run_ = 0;
  std::size_t end_run_ = 0;

  std::vector<grpc::Slice> slices_;       // of tokens
  std::unordered_set<const void*> kept_;  // memory that they refer to
  std::size_t kept_bytes_ = 0;
  const std::shared_ptr<BufferPool> buffers_;
  // Buffer for rows that are copied: [copied_begin_, copied_end_) is not yet in slices_.
  grpc_slice copied_;
  std::size_t copied_capacity_ = 0;
  std::size_t copied_begin_ = 0;
  std::size_t copied_end_ = 0;
  std::size_t token_bytes_left_ = 0;  // of the message
};

// The message for a row's provenance. `part_names` are those of a mixture's parts, or empty.
void FillProvenance(const Stream& stream, const RowProvenance& from, const std::vector<std::string>& part_names,
                    v1::Provenance& to);

// Errors carry their reason (common/rpc/error_info.h): InvalidArgument if `rows` is 0 or does not fit a message of
// max_batch_bytes, as `sizes` knows; `field` names it. ResourceExhausted if no row fits.
absl::Status CheckRows(const std::string& field, std::uint64_t rows, const BatchBuilder& sizes,
                       std::size_t max_batch_bytes);

}  // namespace iterand
