// A connection to one server of a list, the calls on it, and the attempts of calls that outlive a connection. Internal
// to the client library.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/client.h"

namespace iterand {

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

// A channel to one server. The calls on it share it, and may outlive its time as the channel in use.
struct Link {
  std::string address;
  std::string where;  // the address, as errors name it
  std::shared_ptr<grpc::Channel> channel;
  grpc::GenericStub stub;
  std::atomic<bool> heard = false;  // something has been received from there

  Link(std::string to, std::string named, std::shared_ptr<grpc::Channel> by)
      : address(std::move(to)), where(std::move(named)), channel(std::move(by)), stub(channel) {}
};

// Thread-safe.
class Connection {
 public:
  // Errors: InvalidArgument, NotFound; those of Client::Connect before anything is sent.
  static absl::StatusOr<std::shared_ptr<Connection>> Make(std::vector<std::string> addresses,
                                                          const ClientOptions& options);

  // Waits until one of the servers answers. Errors: Unavailable.
  absl::Status WaitForServer();

  // The channel in use.
  std::shared_ptr<Link> link();

  // Turns from a server to the next of the list, unless another call has done so. A silent server is not contacted
  // again over the same channel.
  void Turn(const std::shared_ptr<Link>& failed, bool silent);

  const ClientOptions& options() const { return options_; }
  const std::vector<std::string>& addresses() const { return addresses_; }
  std::atomic<bool> reached = false;  // a server has answered a call

 private:
  Connection(std::vector<std::string> addresses, ClientOptions options,
             std::shared_ptr<grpc::ChannelCredentials> credentials)
      : addresses_(std::move(addresses)), options_(std::move(options)), credentials_(std::move(credentials)) {}

  const std::vector<std::string> addresses_;
  const ClientOptions options_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::mutex mutex_;
  std::size_t current_ = 0;     // guarded by mutex_
  std::shared_ptr<Link> link_;  // guarded by mutex_
};

// A call whose responses come one after the other. One thread drives it and waits on the connection itself, so that a
// response is not handed over from gRPC's threads. Between calls of Read nobody reads: what the server sends meanwhile,
// up to the window of HTTP/2, waits in the kernel and in gRPC's buffers.
//
// A Read that has waited for keepalive_time makes a health check. If the server does not answer that within
// keepalive_timeout either, the call ends as Unavailable. The keepalive of gRPC would end calls of a caller that
// pauses.
class ServerStream {
 public:
  ServerStream(Connection& connection, const char* method, const grpc::ByteBuffer& request, const Deadline& deadline);
  ~ServerStream();
  ServerStream(const ServerStream&) = delete;
  ServerStream& operator=(const ServerStream&) = delete;

  // Waits for the next response. Returns false at the end; `status` is then the call's status.
  bool Read(grpc::ByteBuffer& message);
  const absl::Status& status() const { return status_; }
  bool silent() const { return silent_; }
  const std::shared_ptr<Link>& link() const { return link_; }

  // From any thread.
  void Cancel() { context_.TryCancel(); }

 private:
  enum Tag : std::uint8_t { kRequest, kRead, kFinish, kCheck };
  struct Check;

  void StartRead();
  // The completion queue names an operation by an address.
  static void* Address(Tag tag);
  bool Wait(Tag tag);
  void StartCheck();
  void EndCheck();

  const std::shared_ptr<Link> link_;
  const std::chrono::milliseconds keepalive_time_;
  const std::chrono::milliseconds keepalive_timeout_;
  const std::chrono::milliseconds patience_;  // instead of keepalive_time while nothing has come from the server
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  grpc::ByteBuffer incoming_;  // being read, unless done
  std::unique_ptr<Check> check_;
  bool silent_ = false;
  bool done_ = false;
  absl::Status status_;
};

// The attempts of one call: how many there were since the last answer, and whether another one is allowed.
class Attempts {
 public:
  Attempts(Connection& connection, std::optional<std::chrono::milliseconds> timeout);

  const Deadline& deadline() const { return deadline_; }

  // A server has answered.
  void Succeeded(const Link& link);

  // Turns to the next server and waits, by `pause`. Errors: `failure` if no other server can help or none is left,
  // DeadlineExceeded.
  absl::Status Failed(const ServerStream& call, const absl::Status& failure,
                      const std::function<void(std::chrono::milliseconds)>& pause);

 private:
  absl::Status TooLate(const Link& link, const std::string& more) const;

  Connection& connection_;
  const std::optional<std::chrono::milliseconds> timeout_;
  const std::chrono::steady_clock::time_point begin_;
  const Deadline deadline_;
  int count_ = 0;
  std::optional<std::chrono::steady_clock::time_point> lost_;  // when the first of those attempts failed
};

}  // namespace iterand
