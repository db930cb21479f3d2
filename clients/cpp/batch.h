// A batch of sequences that a client received.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "iterand/v1/noise_service.pb.h"

namespace grpc {
class ByteBuffer;
}

namespace iterand {

// `rows` sequences of `length` tokens as they came off the wire.
class Batch {
 public:
  Batch();
  ~Batch();
  Batch(Batch&&) noexcept;
  Batch& operator=(Batch&&) noexcept;

  std::uint64_t first_index() const { return first_index_; }
  std::uint64_t stride() const { return stride_; }  // row i is the sequence first_index + i * stride
  int rows() const { return rows_; }
  int length() const { return length_; }
  v1::Dtype dtype() const { return dtype_; }
  std::size_t token_bytes() const { return token_bytes_; }                       // of the whole batch
  const std::string& fingerprint() const { return fingerprint_; }                // 32 bytes
  const std::vector<v1::Provenance>& provenance() const { return provenance_; }  // one a row, if asked for

  // The part that made each row, as numbered in StreamInfo.parts; empty unless the stream's recipe is a mixture.
  std::span<const std::uint8_t> parts() const {
    return {reinterpret_cast<const std::uint8_t*>(parts_.data()), parts_.size()};
  }

  // rows x length bytes, 1 where a token is to be predicted; empty unless the stream's recipe has loss_mask.
  std::span<const std::byte> loss_mask() const { return std::as_bytes(std::span(loss_mask_)); }

  // The tokens, row-major, little-endian, in the pieces in which they were received: nothing is copied. Valid until the
  // batch is assigned or destroyed.
  std::span<const std::span<const std::byte>> pieces() const { return pieces_; }

  // The tokens in one piece: a view of what was received if that is in one piece, else of a copy that the first call
  // makes.
  std::span<const std::byte> tokens() const;

  // Copies the tokens: token_bytes() bytes.
  void CopyTo(void* out) const;

 private:
  friend class BatchReader;
  friend class Client;
  struct Slices;  // of the received message; keep the pieces alive

  // Takes a serialized v1.Batch, whose memory it refers to from then on. Errors: DataLoss for what is not one.
  absl::Status Parse(grpc::ByteBuffer& message);

  std::uint64_t first_index_ = 0;
  std::uint64_t stride_ = 1;
  int rows_ = 0;
  int length_ = 0;
  v1::Dtype dtype_ = v1::DTYPE_UNSPECIFIED;
  std::size_t token_bytes_ = 0;
  std::string fingerprint_;
  std::vector<v1::Provenance> provenance_;
  std::string loss_mask_;
  std::string parts_;
  std::vector<std::span<const std::byte>> pieces_;
  mutable std::vector<std::byte> joined_;
  std::unique_ptr<Slices> slices_;
};

}  // namespace iterand
