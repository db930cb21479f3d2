// The server's page: files for a browser and what they ask for, over HTTP/1.1. docs/page.md.
//
// Bytes move on a thread of the HTTP server's own, and requests are answered on threads of a pool. Sequences are made
// by the engine, in turn with its streams. None of gRPC's threads is involved.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/engine/engine.h"
#include "server/http/http_server.h"
#include "server/http/page_rules.h"
#include "server/live_rows.h"
#include "server/server_stats.h"

namespace iterand {

class PageServer {
 public:
  struct Options {
    std::string listen;
    bool is_public = false;          // other machines can connect
    std::shared_ptr<ServerTls> tls;  // null: not encrypted
    HttpServer::Limits limits;
    std::function<absl::Status(std::string_view authorization)> check_token;
    std::function<ServerStats()> stats;
  };

  // `engine` and `live` must outlive this object. Errors: those of HttpServer::Start.
  static absl::StatusOr<std::unique_ptr<PageServer>> Start(const Options& options, Engine* engine, LiveRows* live);

  ~PageServer();  // stops
  PageServer(const PageServer&) = delete;
  PageServer& operator=(const PageServer&) = delete;

  const std::string& address() const;

  // Closes all connections and ends the requests in progress, within some milliseconds. Thread-safe.
  void Stop();

 private:
  class Impl;
  PageServer();
  std::unique_ptr<Impl> impl_;
};

}  // namespace iterand
