#include "server/metrics.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "iterate/stream.h"

namespace iterand {
namespace {

// All metrics are read from the engine's statistics when they are scraped, so no second set of counters is needed.
class StatsCollector final : public prometheus::Collectable {
 public:
  StatsCollector(int threads, std::function<ServerStats()> stats) : threads_(threads), stats_(std::move(stats)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    const ServerStats stats = stats_();
    std::vector<prometheus::MetricFamily> families;
    const auto add = [&families](prometheus::MetricType type, const char* name, const char* help, double value,
                                 std::vector<prometheus::ClientMetric::Label> labels = {}) {
      prometheus::ClientMetric metric;
      metric.label = std::move(labels);
      (type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
      prometheus::MetricFamily family;
      family.name = absl::StrCat("iterand_", name);
      family.help = help;
      family.type = type;
      family.metric.push_back(std::move(metric));
      families.push_back(std::move(family));
    };
    const auto counter = [&add](const char* name, const char* help, auto value) {
      add(prometheus::MetricType::Counter, name, help, static_cast<double>(value));
    };
    const auto gauge = [&add](const char* name, const char* help, auto value) {
      add(prometheus::MetricType::Gauge, name, help, static_cast<double>(value));
    };
    add(prometheus::MetricType::Gauge, "engine_info", "Always 1; the label tells the engine version.", 1,
        {{"engine_version", absl::StrCat(kEngineVersion)}});
    gauge("engine_threads", "Threads that generate.", threads_);
    counter("sequences_total", "Sequences sent.", stats.sequences);
    counter("tokens_total", "Tokens sent.", stats.tokens);
    counter("batches_total", "Batches sent.", stats.batches);
    counter("sent_bytes_total", "Bytes of the batch messages sent.", stats.batch_bytes);
    counter("streams_started_total", "Calls of Stream, Read and Execute accepted.", stats.streams_started);
    gauge("streams_open", "Calls of Stream, Read and Execute in progress.", stats.streams_open);
    counter("stream_wait_seconds_total", "Time that streams had a client ready for a batch that was not generated yet.",
            stats.wait_seconds);
    counter("segments_generated_total", "Segments generated.", stats.segments_generated);
    counter("segments_cancelled_total", "Segments cancelled in progress, since no reader was left.",
            stats.segments_cancelled);
    counter("segments_failed_total", "Segments whose generation ended in an error.", stats.segments_failed);
    counter("generation_seconds_total", "Core time spent generating, all threads.", stats.generation_seconds);
    counter("executed_programs_total", "Programs run for calls of Execute.", stats.programs_executed);
    counter("executed_steps_total", "Instructions that those programs executed.", stats.steps_executed);
    counter("execution_seconds_total", "Core time spent on them, all threads.", stats.background_seconds);
    gauge("segments_queued", "Segments wanted and not begun.", stats.segments_queued);
    gauge("segments_running", "Segments being generated.", stats.segments_running);
    counter("cache_hits_total", "Segments wanted that were ready or in progress.", stats.cache_hits);
    counter("cache_misses_total", "Segments wanted that had to be generated.", stats.cache_misses);
    gauge("cache_bytes", "Memory of the segments in the cache.", stats.cache_bytes);
    gauge("held_bytes", "Memory of the segments that streams hold or wait for; shared ones count for each.",
          stats.held_bytes);
    gauge("connections_open", "Connections to the gRPC port.", stats.connections.open);
    counter("connections_accepted_total", "Connections accepted.", stats.connections.accepted);
    prometheus::MetricFamily ended;
    ended.name = "iterand_connections_ended_total";
    ended.help = "Connections that the server refused, or closed for cause, by reason.";
    ended.type = prometheus::MetricType::Counter;
    for (std::size_t i = 0; i < kConnectionEnds.size(); ++i) {
      prometheus::ClientMetric& metric = ended.metric.emplace_back();
      metric.label = {{"action", IsRefusal(static_cast<ConnectionEnd>(i)) ? "refused" : "closed"},
                      {"reason", kConnectionEnds[i]}};
      metric.counter.value = static_cast<double>(stats.connections.ended[i]);
    }
    families.push_back(std::move(ended));
    prometheus::MetricFamily calls;
    calls.name = "iterand_calls_total";
    calls.help = "Calls that ended, refused ones too, by gRPC status.";
    calls.type = prometheus::MetricType::Counter;
    for (std::size_t method = 0; method < kMethods.size(); ++method) {
      for (std::size_t code = 0; code < kStatusCodes; ++code) {
        const std::uint64_t count = stats.calls_ended[method][code];
        if (count == 0) continue;
        prometheus::ClientMetric& metric = calls.metric.emplace_back();
        metric.label = {{"method", kMethods[method]}, {"code", kCodes[code]}};
        metric.counter.value = static_cast<double>(count);
      }
    }
    if (!calls.metric.empty()) families.push_back(std::move(calls));
    gauge("segments_replaying", "Segments of endless pools that are being replayed to reach them.",
          stats.segments_replaying);
    gauge("used_stream_bytes", "Memory of the workspaces and endless pools of streams in use, estimated.",
          stats.used_stream_bytes);
    gauge("idle_stream_bytes", "The same of streams that nobody uses, kept to be used again.", stats.idle_stream_bytes);
    gauge("streams_idle", "Streams that nobody uses, kept to be used again.", stats.streams_idle);
    return families;
  }

 private:
  const int threads_;
  const std::function<ServerStats()> stats_;
};

}  // namespace

class MetricsServer::Impl {
 public:
  std::shared_ptr<StatsCollector> collector;  // the exposer holds it weakly
  std::unique_ptr<prometheus::Exposer> exposer;
  std::string host;
};

MetricsServer::MetricsServer() : impl_(std::make_unique<Impl>()) {}
MetricsServer::~MetricsServer() = default;

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& listen, int threads,
                                                                    std::function<ServerStats()> stats) {
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  Impl& impl = *server->impl_;
  impl.host = listen.substr(0, listen.rfind(':'));
  impl.collector = std::make_shared<StatsCollector>(threads, std::move(stats));
  // The library reports failure by exceptions.
  try {
    impl.exposer = std::make_unique<prometheus::Exposer>(listen, /*num_threads=*/1);
    impl.exposer->RegisterCollectable(impl.collector);
  } catch (const std::exception&) {  // its text is the library's own
    return absl::UnavailableError(absl::StrCat("cannot serve metrics on ", listen));
  }
  return server;
}

std::string MetricsServer::address() const {
  const std::vector<int> ports = impl_->exposer->GetListeningPorts();
  return absl::StrCat(impl_->host, ":", ports.empty() ? 0 : ports.front());
}

}  // namespace iterand
