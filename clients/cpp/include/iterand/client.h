// A client of iterand servers: streams of structured noise over the network.
//
//   absl::StatusOr<std::unique_ptr<iterand::Client>> client = iterand::Client::Connect("localhost:50051");
//   if (!client.ok()) return client.status();
//   auto stream = (*client)->Stream({.recipe = "up", .seed = 1, .batch_size = 64});
//   if (!stream.ok()) return stream.status();
//   iterand::Batch batch;
//   while ((*stream)->Next(batch)) Train(batch.tokens(), batch.rows(), batch.length());
//   return (*stream)->status();
//
// A server keeps no state of its clients. To resume, open the stream again with `start` set to the saved next_index().
// Any server of the same engine version continues it, with the same bits. docs/cpp.md has a program that does so.
//
// Calls outlive their connections. If a server ends, is full or falls silent, the call is made again: on it, or on the
// next of ConnectToAny's list. A stream continues at its index and demands the same fingerprint. So its reader receives
// what it would have received.
//
// Errors are absl::Status with the code and the message of the server. Messages contain nothing that could command a
// terminal or break a line of a log. ErrorInfoOf (iterand/error.h) gives the machine-readable reason of a server's
// error. Programs should use that, since messages may change.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/batch.h"
#include "iterand/error.h"
#include "iterand/execute.h"
#include "iterand/types.h"

namespace iterand {

// How often a call is made again that finds no server, or only full ones. Then it ends as Unavailable. Every answer
// resets the count. The pauses between attempts double from first_wait to longest_wait.
struct RetryOptions {
  int attempts = 8;
  std::chrono::milliseconds first_wait{100};
  std::chrono::milliseconds longest_wait{5000};
};

struct ClientOptions {
  bool tls = false;             // encrypt the connection; each of the three files below implies it
  std::string ca_file;          // PEM file of the authorities to trust; empty: the system's
  std::string tls_cert_file;    // client certificate (PEM chain), for a server that asks for one; needs its key
  std::string tls_key_file;     // private key (PEM) of the client certificate
  std::string tls_server_name;  // expected in the server's certificate, if not the host of the address
  std::string token;            // sent as "authorization: Bearer TOKEN", if not empty
  std::string token_file;       // instead: the first token of this file, which may have the form of a server's

  // How long Connect tries each server.
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(3);
  RetryOptions retry;

  // A call that has waited for keepalive_time without a message makes a health check. A server that does not answer it
  // within keepalive_timeout is silent: the call is made again on the next. A server that answers may take any time for
  // a batch. A caller that pauses is not affected.
  std::chrono::milliseconds keepalive_time = std::chrono::seconds(3);
  std::chrono::milliseconds keepalive_timeout = std::chrono::seconds(4);

  // Receives a line when a call begins to wait for a server, and one when it has found one. Called from any thread
  // that reads.
  std::function<void(const std::string&)> report;
};

// Which sequences of which stream Client::Stream sends, and how.
struct StreamOptions {
  // The stream: see StreamSpec in iterand/types.h.
  std::string recipe = "up";
  std::uint64_t seed = 0;
  std::optional<std::uint32_t> length = {};
  std::optional<bool> loss_mask = {};
  std::string expected_fingerprint = {};

  // Rank `rank` of `world_size` receives the indices g with g mod world_size = rank. world_size must divide the
  // recipe's lanes.
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;

  std::uint64_t start = 0;                  // the first index of the rank at or after it comes first
  std::optional<std::uint64_t> count = {};  // sequences that this rank receives; not given: no end

  std::uint32_t batch_size = 64;  // sequences per batch, at least 1; the last batch may have fewer
  bool provenance = false;        // report where each sequence came from

  // Batches that a thread of the stream receives ahead of the caller. For a trainer, about 8, or what it consumes in 20
  // ms if that is more. With 0 the thread that calls Next receives. That is fastest if it calls again at once.
  int prefetch = 8;
};

// The time limit of a call with all its attempts; without a value there is none but that of RetryOptions. A call that
// takes longer ends as DeadlineExceeded.
using Timeout = std::optional<std::chrono::milliseconds>;

// Reads a stream, batch after batch. Not thread-safe, but Cancel may be called from any thread. Destroying it cancels
// the stream. May outlive its client.
class RemoteStream {
 public:
  ~RemoteStream();
  RemoteStream(const RemoteStream&) = delete;
  RemoteStream& operator=(const RemoteStream&) = delete;

  // Waits for the next batch and returns true with it. Returns false when there is none: then status() says why.
  // `batch` may be reused from call to call.
  [[nodiscard]] bool Next(Batch& batch);

  // After Next has returned false: OK if all of `count` sequences have come, otherwise the error. The server's verdict
  // on the request comes with the first Next. Before: OK.
  const absl::Status& status() const { return status_; }

  // The index after the last batch that Next returned: the `start` from which another stream continues this one. Ranks
  // that have read equally many batches can resume with any world_size from rank 0's next_index().
  std::uint64_t next_index() const { return next_index_; }

  // Ends the stream: Next then returns false with Cancelled.
  void Cancel();

 private:
  friend class Client;
  friend class RpcClient;
  struct State;
  RemoteStream(std::unique_ptr<State> state, std::uint64_t start);

  std::unique_ptr<State> state_;
  std::string recipe_path_;  // for errors; empty if the recipe is not a file
  std::uint64_t next_index_;
  absl::Status status_;
};

class RpcClient;

// Thread-safe. The first client of a process makes malloc keep up to 32 MB of freed memory, so that receiving batches
// causes no page faults. A limit that was set by hand stays.
class Client {
 public:
  // Connects to "host:port" or "unix:path". Errors:
  //   InvalidArgument  the address has another form; the token is not one line of printable ASCII; a token and a token
  //                    file are given; a file is faulty
  //   NotFound         a file cannot be read
  //   Unavailable      no server answers within connect_timeout
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address, const ClientOptions& options = {});

  // Connects to the first of several servers that answers. The others stand by. All must have the same engine version.
  static absl::StatusOr<std::unique_ptr<Client>> ConnectToAny(std::vector<std::string> addresses,
                                                              const ClientOptions& options = {});

  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Starts a stream. Errors: InvalidArgument for options that no server could accept, NotFound for a recipe's file
  // that cannot be read. What the server refuses, the first Next reports.
  absl::StatusOr<std::unique_ptr<RemoteStream>> Stream(const StreamOptions& options);

  // Reads the sequences of `range` as one batch. Errors: as Stream and Next.
  absl::StatusOr<Batch> Read(const StreamSpec& stream, const IndexRange& range, bool provenance = false,
                             Timeout timeout = std::nullopt);

  // Reads the sequences of any indices as one batch, in their order; an index may occur several times. The server
  // generates each segment once. The batch's stride is 0. Errors: as Read.
  absl::StatusOr<Batch> ReadIndices(const StreamSpec& stream, std::span<const std::uint64_t> indices,
                                    bool provenance = false, Timeout timeout = std::nullopt);

  // What is known about a stream before its first sequence. Errors: NotFound or InvalidArgument for a recipe that is
  // missing or faulty.
  absl::StatusOr<StreamInfo> Describe(const StreamSpec& stream, Timeout timeout = std::nullopt);

  // Runs programs on the byte machine of the family `tape_machine` (iterand/execute.h). Hands each result to `sink` as
  // it comes, in the order of the programs. A sink that returns false ends the call with Cancelled. Errors:
  // InvalidArgument for a faulty program, with its position, before anything is run.
  absl::Status Execute(const std::vector<ExecuteProgram>& programs, const ExecuteOptions& options,
                       const std::function<bool(ExecuteResult)>& sink, Timeout timeout = std::nullopt);

 private:
  explicit Client(std::unique_ptr<RpcClient> rpc);

  std::unique_ptr<RpcClient> rpc_;
};

}  // namespace iterand
