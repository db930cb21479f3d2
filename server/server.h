// The server: structured noise over gRPC (proto/iterand/v1/noise_service.proto).
//
//   ServerOptions options;
//   options.listen = "127.0.0.1:0";
//   absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
//   std::cout << (*server)->address();   // 127.0.0.1:43817
//   ...
//   (*server)->Shutdown(std::chrono::seconds(10));
//
// A server keeps no state that a client would have to restore. Two servers with the same engine version serve the same
// bytes, so a client may continue with another one from the index it has reached.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/http/http_server.h"
#include "server/server_stats.h"

namespace iterand {

inline constexpr std::array<const char*, 4> kLogLevels = {"debug", "info", "error", "off"};

// Everything has a default; a limit is never "none".
struct ServerOptions {
  // Where to listen: "host:port", "[ipv6]:port" or "unix:path". Port 0 takes a free one; see Server::address().
  std::string listen = "127.0.0.1:50051";

  // If not empty, the bound address is written to this file when the server is ready: one line, whole or not at all.
  // The file is removed when the server stops, unless another server's address is in it by then.
  std::string address_file;

  // Where Prometheus may scrape http://host:port/metrics; empty: nowhere. Port 0 takes a free one.
  std::string metrics_listen;

  // Where the page for browsers is, "host:port" or "[ipv6]:port"; empty: nowhere. Port 0 takes a free one. TLS, tokens,
  // client certificates and insecure_public apply to it as to `listen`. docs/page.md.
  std::string http_listen;
  HttpServer::Limits http_limits;

  // PEM files; both or neither. Without them the connection is not encrypted.
  std::string tls_cert_file;  // certificate chain
  std::string tls_key_file;   // private key

  // PEM file of authorities. If given, every client must show a certificate that one of them has signed; others are
  // refused in the handshake. Needs the two files above.
  std::string tls_client_ca_file;

  // File with secrets, one per line; white space around them, empty lines and lines that begin with # are ignored. If
  // given, each call must carry the metadata "authorization: Bearer SECRET" with one of them; others end with
  // UNAUTHENTICATED. Health checks and reflection are free.
  std::string token_file;

  // Allows an address that other machines can reach without TLS, or without either tokens or client certificates.
  bool insecure_public = false;

  // Threads that generate; 0: one per core.
  int threads = 0;

  // Memory of segments kept for other streams of the same fingerprint, in bytes. 0: streams share only what they hold.
  // Those of streams that are quickly made again (over 250 MB per second) are not kept.
  std::size_t cache_bytes = std::size_t{256} << 20;

  // How far generation runs ahead of what a client has taken, in bytes of segments per stream.
  std::size_t readahead_bytes = std::size_t{8} << 20;

  // The most that one stream may hold, in bytes of segments: a recipe whose lanes need more is refused with
  // RESOURCE_EXHAUSTED. At least 1 MiB.
  std::size_t max_stream_bytes = std::size_t{256} << 20;

  // Calls of Stream, Read and Execute that may be open at a time; more end with UNAVAILABLE.
  int max_streams = 256;

  // How long a call may take to send its whole request. Those that take longer end with DEADLINE_EXCEEDED.
  std::chrono::milliseconds request_timeout = std::chrono::seconds(20);

  // Connections that may be open at a time, in total and from one peer: an IPv4 address, or an IPv6 network of 64 bits.
  // A further one takes the place of the one that has been idle longest, or is closed at once if none is idle. A limit
  // of open files below twice max_connections lowers it.
  int max_connections = 2048;
  int max_connections_per_peer = 1536;

  // How long a connection may take to complete the handshakes of TLS and HTTP/2. Those that take longer are closed.
  std::chrono::milliseconds handshake_timeout = std::chrono::seconds(10);

  // The largest batch message in bytes. The default is the limit of gRPC clients that set none.
  std::size_t max_batch_bytes = std::size_t{4} << 20;

  // The lowest level that the whole process logs: one of kLogLevels. Calls that fail because of their client or a limit
  // are information, other calls that end are for debugging.
  std::string log_level = "info";

  // If not empty, a folder where endless pools are kept now and then (iterate/snapshots.h). After a restart, or on
  // another server that has the folder, a stream then continues without a replay. A missing folder is made.
  std::string snapshot_dir;

  // The most bytes that these may take. Snapshots of the streams that were written longest ago make room.
  std::uint64_t snapshot_bytes = std::uint64_t{16} << 30;

  // How long `iterand serve` lets calls in flight finish after SIGTERM.
  std::chrono::milliseconds drain = std::chrono::seconds(10);
};

class Server {
 public:
  // Binds, starts the threads and serves. Errors: InvalidArgument for options that contradict each other and for a
  // public address without protection (insecure_public), NotFound or InvalidArgument for files that cannot be read or
  // used, Unavailable for addresses that cannot be bound.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options);

  ~Server();  // Shutdown at once, if it has not been shut down
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Where it listens, with the port that was taken: "127.0.0.1:43817".
  std::string address() const;

  // Where it serves metrics, or empty.
  std::string metrics_address() const;

  // Where the page is, or empty.
  std::string http_address() const;

  // Reads the files of certificate, key, client authorities and tokens again and logs the result. New handshakes and
  // calls meet what the files hold now; connections and calls in progress continue. The TLS files, as one set, and the
  // token file are taken each on its own: where there is an error the old content stays in use. Returns the first
  // error, of the kinds that Start has. May be called from any thread, also during Shutdown.
  absl::Status Reload();

  // Ends service: new calls are refused. Each stream finishes the batch in flight and ends with UNAVAILABLE and a
  // message that names the index to resume from. What is left after `drain` is cancelled. Returns when all is done; may
  // be called again, from any thread.
  void Shutdown(std::chrono::milliseconds drain);

  // Blocks until Shutdown has been called.
  void Wait();

  // What the engine has done and holds.
  ServerStats stats() const;

 private:
  Server();
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace iterand
