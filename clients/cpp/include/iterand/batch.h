// A batch of sequences that a client has received.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "iterand/types.h"

namespace grpc {
class ByteBuffer;
}

namespace iterand {

// `rows` sequences of `length` tokens. Row i is the sequence first_index + i * stride, or that of the i-th index if
// they were read by a list of indices: then stride is 0. Can be moved, not copied.
class Batch {
 public:
  Batch();
  ~Batch();
  Batch(Batch&&) noexcept;
  Batch& operator=(Batch&&) noexcept;

  std::uint64_t first_index() const { return first_index_; }
  std::uint64_t stride() const { return stride_; }
  int rows() const { return rows_; }
  int length() const { return length_; }  // tokens per row
  Dtype dtype() const { return dtype_; }

  // The stream's fingerprint, as StreamInfo::fingerprint: 64 hexadecimal digits.
  std::string fingerprint() const;

  // One per row if it was asked for, else empty.
  const std::vector<Provenance>& provenance() const { return provenance_; }

  // The part that made each row, as numbered in the description of a mixture's stream. Empty if the recipe is not a
  // mixture.
  std::span<const std::uint8_t> parts() const {
    return {reinterpret_cast<const std::uint8_t*>(parts_.data()), parts_.size()};
  }

  // Shape (rows, length), row-major: 1 where a token is to be predicted, else 0. Empty if the stream has no loss masks.
  std::span<const std::byte> loss_mask() const { return std::as_bytes(std::span(loss_mask_)); }

  // The tokens: shape (rows, length), row-major, little-endian, of type dtype(). Valid until the batch is assigned or
  // destroyed. Nothing is copied if the tokens came in one piece. Otherwise the first call copies them into one.
  std::span<const std::byte> tokens() const;

  // The same in the pieces in which they came. Nothing is copied. A piece may end within a token.
  std::span<const std::span<const std::byte>> pieces() const { return pieces_; }

  // Bytes of all tokens: rows * length * DtypeBytes(dtype).
  std::size_t token_bytes() const { return token_bytes_; }

  // Copies the tokens. `out` must have at least token_bytes() bytes.
  void CopyTo(std::span<std::byte> out) const;

 private:
  friend class RemoteStream;
  friend class RpcClient;
  struct Slices;  // of the received message; keep the pieces alive

  // Takes a serialized v1.Batch, and refers to its memory from then on. Errors: DataLoss for anything else.
  absl::Status Parse(grpc::ByteBuffer& message);

  // The steps of Parse. ReadFields reads all fields but the tokens, and gives the place where these begin in the
  // message.
  absl::Status ReadFields(grpc::ByteBuffer& message, std::size_t& tokens_begin, bool& dtype_known);
  absl::Status CheckSizes(bool dtype_known) const;
  void LocateTokens(std::size_t tokens_begin);

  std::uint64_t first_index_ = 0;
  std::uint64_t stride_ = 1;
  int rows_ = 0;
  int length_ = 0;
  Dtype dtype_ = Dtype::kUint8;
  std::size_t token_bytes_ = 0;
  std::string fingerprint_;  // 32 bytes
  std::vector<Provenance> provenance_;
  std::string loss_mask_;
  std::string parts_;
  std::vector<std::span<const std::byte>> pieces_;
  mutable std::vector<std::byte> joined_;
  std::unique_ptr<Slices> slices_;
};

}  // namespace iterand
