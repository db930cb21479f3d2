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
// Errors are absl::Status with the code and the message of the server, which is made safe for terminals and logs
// (common/printable.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/cpp/batch.h"
#include "iterand/v1/noise_service.pb.h"

namespace iterand {

struct ClientOptions {
  bool tls = false;             // each of the three files below implies it
  std::string ca_file;          // PEM file of the authorities to trust; empty: the system's
  std::string tls_cert_file;    // client certificate (PEM chain), for a server that asks for one; needs its key
  std::string tls_key_file;     // private key (PEM) of the client certificate
  std::string tls_server_name;  // expected in the server's certificate, if not the host of the address
  std::string token;            // sent as "authorization: Bearer TOKEN", if not empty
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(3);
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
  // Connects to "host:port" or "unix:path". Errors: InvalidArgument for an address of another form, for a token that is
  // no line of printable ASCII and for TLS files that cannot be used, Unavailable if nobody answers within
  // connect_timeout, NotFound for a file that cannot be read.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address, const ClientOptions& options = {});

  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Starts a stream. The server's verdict on the request comes with the first Next.
  //
  // prefetch: with 0 the thread that calls Next receives, which is the fastest for a caller that asks again at once. A
  // trainer sets some 8, or what it takes in some 20 ms if that is more: a thread of the reader then receives so many
  // batches ahead, and Next finds one ready.
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
