// An HTTP/1.1 server that is bounded in connections, bytes and time.
//
// One thread of its own moves the bytes of all connections, so that a connection costs no thread, however slow it is.
// That thread calls `judge` when the head of a request has arrived, before its body is read, and `handle` when all of
// it has. Both must return at once; the answer may come from any thread, any time later. A client that closes its
// connection meanwhile cancels the exchange within kWatchInterval.
//
// A connection is closed when
//   - the handshake of TLS takes longer than Limits::handshake;
//   - a request takes longer than Limits::request from its first byte to its last;
//   - the answer is not taken within Limits::response;
//   - no request begins within Limits::idle;
//   - its request is malformed, or its head or body is too large: it is answered first.
// Beyond Limits::connections, a new connection takes the place of the one that has been idle longest, or is closed.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/http/exchange.h"
#include "server/tls.h"

namespace iterand {

class HttpServer {
 public:
  static constexpr auto kWatchInterval = std::chrono::milliseconds(50);

  struct Limits {
    std::size_t connections = 64;
    std::size_t head_bytes = 16 << 10;
    std::size_t body_bytes = (1 << 20) + (64 << 10);
    std::chrono::milliseconds handshake = std::chrono::seconds(10);
    std::chrono::milliseconds request = std::chrono::seconds(10);
    std::chrono::milliseconds response = std::chrono::seconds(30);
    std::chrono::milliseconds idle = std::chrono::seconds(60);
  };

  // The answer to a request that is refused, by its head alone.
  using Judge = std::function<std::optional<HttpResponse>(const HttpHead&)>;
  using Handle = std::function<void(std::shared_ptr<HttpExchange>)>;

  struct Options {
    std::string listen;              // HOST:PORT or [IPV6]:PORT; port 0 takes a free one
    std::shared_ptr<ServerTls> tls;  // null: not encrypted
    Limits limits;
    Judge judge;
    Handle handle;
  };

  // Binds, and serves. Errors: InvalidArgument for an address of another form, Unavailable for one that cannot be
  // bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(Options options);

  ~HttpServer();  // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Where it listens, with the port that was taken.
  const std::string& address() const { return address_; }

  // Closes all connections and cancels their exchanges. Neither function is called any more once it has returned;
  // answers that still come are dropped.
  void Stop();

 private:
  class Impl;
  HttpServer();

  std::string address_;
  std::shared_ptr<Impl> impl_;
};

}  // namespace iterand
