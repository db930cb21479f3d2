// A client of the iterand service.
//
//   absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect("localhost:50051");
//   v1::StreamRequest request;
//   request.mutable_stream()->set_preset("up");
//   absl::StatusOr<std::unique_ptr<BatchReader>> reader = (*client)->Stream(request, /*prefetch=*/8);
//   Batch batch;
//   for (;;) {
//     absl::StatusOr<bool> more = (*reader)->Next(batch);
//     if (!more.ok() || !*more) break;
//     Train(batch.tokens(), batch.rows(), batch.length());
//   }
//
// Errors are absl::Status with the code and the message of the server.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.pb.h"

namespace iterand {

struct ClientOptions {
  bool tls = false;
  std::string tls_root_file;    // PEM; empty: the system's roots. Implies tls.
  std::string tls_server_name;  // expected in the server's certificate, if not the host of the address
  std::string token;            // sent as "authorization: Bearer TOKEN", if not empty
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(3);
};

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

  // rows x length bytes, 1 where a token is to be predicted; empty unless the stream's recipe has loss_mask.
  std::span<const std::byte> mask() const { return std::as_bytes(std::span(mask_)); }

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
  struct Slices;  // the received message; keeps the pieces alive

  static absl::Status Parse(std::unique_ptr<Slices> slices, Batch& batch);

  std::uint64_t first_index_ = 0;
  std::uint64_t stride_ = 1;
  int rows_ = 0;
  int length_ = 0;
  v1::Dtype dtype_ = v1::DTYPE_UNSPECIFIED;
  std::size_t token_bytes_ = 0;
  std::string fingerprint_;
  std::vector<v1::Provenance> provenance_;
  std::string mask_;
  std::vector<std::span<const std::byte>> pieces_;
  mutable std::vector<std::byte> joined_;
  std::unique_ptr<Slices> slices_;
};

// Reads a stream, batch after batch. Not thread-safe, but Cancel may be called from any thread. Destroying it cancels
// the stream.
class BatchReader {
 public:
  ~BatchReader();
  BatchReader(const BatchReader&) = delete;
  BatchReader& operator=(const BatchReader&) = delete;

  // Waits for the next batch: true with a batch, false at the stream's end, or the error that ended it. `batch` may be
  // reused from call to call.
  absl::StatusOr<bool> Next(Batch& batch);

  // The index to start from to go on after the last batch that Next returned.
  std::uint64_t next_index() const { return next_index_; }

  // Ends the stream; Next then returns Cancelled.
  void Cancel();

 private:
  friend class Client;
  struct Call;
  explicit BatchReader(std::unique_ptr<Call> call, std::uint64_t start);

  std::unique_ptr<Call> call_;
  std::uint64_t next_index_;
};

// Thread-safe. The first one has malloc keep up to 32 MB of what its process frees: KeepFreedMemory in client.cc.
class Client {
 public:
  // Connects to "host:port" or "unix:path". Errors: InvalidArgument for an address of another form and for a
  // token that is no line of printable ASCII, Unavailable if nobody answers within connect_timeout, NotFound for a
  // roots file that cannot be read.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address, const ClientOptions& options = {});

  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Starts a stream. The server's verdict on the request comes with the first Next.
  //
  // prefetch: with 0 the thread that calls Next receives, which is the fastest for a caller that asks again at once. A
  // trainer sets some 8: a thread of the reader then receives so many batches ahead, and Next finds one ready.
  // Errors: InvalidArgument for a prefetch below 0.
  absl::StatusOr<std::unique_ptr<BatchReader>> Stream(const v1::StreamRequest& request, int prefetch = 0);

  absl::StatusOr<Batch> Read(const v1::ReadRequest& request);
  absl::StatusOr<v1::DescribeResponse> Describe(const v1::DescribeRequest& request);

  // Has programs run and hands each result to `sink`, in the order of the request, as they come. When the sink returns
  // false the call is given up, which is Cancelled.
  absl::Status Execute(const v1::ExecuteRequest& request, absl::FunctionRef<bool(const v1::ExecuteResult&)> sink);

 private:
  Client();
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace iterand
