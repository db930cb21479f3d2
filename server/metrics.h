// Prometheus text metrics over HTTP.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/server_stats.h"

namespace iterand {

class MetricsServer {
 public:
  // Serves http://listen/metrics, with `stats` called at each scrape; `listen` is host:port. Errors: Unavailable if it
  // cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& listen, int threads,
                                                              std::function<ServerStats()> stats);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // With the port that was taken.
  std::string address() const;

 private:
  MetricsServer();
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace iterand
