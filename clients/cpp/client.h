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
// (common/printable.h). ReasonOf and ErrorInfoOf (common/rpc/error_info.h) give the machine-readable reason of a
// server's error. Programs should use that, since messages may change.
//
// Calls survive their connections. Where a server ends, is full or falls silent, a call is made again, on it or on the
// next of the list that ConnectToAny was given. A stream goes on at the index that it has reached and demands the same
// fingerprint, so what follows is what would have followed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/cpp/batch.h"
#include "common/rpc/error_info.h"
#include "iterand/v1/noise_service.pb.h"

namespace iterand {

// How often a call that finds no server, or only full ones, is made again before it ends as Unavailable. Every answer
// resets the count. Waits in between double from first_wait to longest_wait.
struct RetryOptions {
  int attempts = 8;
  std::chrono::milliseconds first_wait{100};
  std::chrono::milliseconds longest_wait{5000};
};

struct ClientOptions {
  bool tls = false;             // each of the three files below implies it
  std::string ca_file;          // PEM file of the authorities to trust; empty: the system's
  std::string tls_cert_file;    // client certificate (PEM chain), for a server that asks for one; needs its key
  std::string tls_key_file;     // private key (PEM) of the client certificate
  std::string tls_server_name;  // expected in the server's certificate, if not the host of the address
  std::string token;            // sent as "authorization: Bearer TOKEN", if not empty
  std::string token_file;       // instead: the first token of this file, which may be a server's (common/token_file.h)
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(3);
  RetryOptions retry;

  // A call that has waited for keepalive_time without a message makes a health check. A server that does not answer it
  // within keepalive_timeout is silent: the call is made again on the next. One that answers may take any time for a
  // batch, and a caller that pauses is not affected.
  std::chrono::milliseconds keepalive_time = std::chrono::seconds(3);
  std::chrono::milliseconds keepalive_timeout = std::chrono::seconds(4);

  // Takes a line when a call begins to wait for a server, and one when it has found one. From any thread that reads.
  std::function<void(const std::string&)> report;
};

// For a call with all its attempts; none for no limit but those of RetryOptions. A call that takes longer ends as
// DeadlineExceeded, with the address and the timeout.
using Timeout = std::optional<std::chrono::milliseconds>;

class Connection;

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
  struct State;
  static std::unique_ptr<BatchReader> Start(std::shared_ptr<Connection> connection, const v1::StreamRequest& request,
                                            int prefetch);
  BatchReader(std::unique_ptr<State> state, std::uint64_t start);

  std::unique_ptr<State> state_;
  std::uint64_t next_index_;
};

// Thread-safe. The first one has malloc keep up to 32 MB of what its process frees: KeepFreedMemory in client.cc.
class Client {
 public:
  // Connects to "host:port" or "unix:path". Errors: InvalidArgument for an address of another form, for a token that is
  // no line of printable ASCII, for both a token and a token file, and for files that cannot be used, Unavailable if
  // nobody answers within connect_timeout, NotFound for a file that cannot be read.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address, const ClientOptions& options = {});

  // The same for the first of several servers that answers; the others stand by. All must serve the same streams, as
  // all iterand servers of one engine version do. connect_timeout is that of each.
  static absl::StatusOr<std::unique_ptr<Client>> ConnectToAny(std::vector<std::string> addresses,
                                                              const ClientOptions& options = {});

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

  absl::StatusOr<Batch> Read(const v1::ReadRequest& request, Timeout timeout = std::nullopt);
  absl::StatusOr<v1::DescribeResponse> Describe(const v1::DescribeRequest& request, Timeout timeout = std::nullopt);

  // Has programs run and hands each result to `sink`, in the order of the request, as they come. When the sink returns
  // false the call is given up, which is Cancelled.
  absl::Status Execute(const v1::ExecuteRequest& request, absl::FunctionRef<bool(const v1::ExecuteResult&)> sink,
                       Timeout timeout = std::nullopt);

 private:
  Client();

  std::shared_ptr<Connection> connection_;
};

}  // namespace iterand
