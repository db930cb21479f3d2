#include "server/http/page_server.h"

#include <utility>

#include "absl/strings/match.h"
#include "server/http/page_api.h"
#include "server/http/page_files.h"
#include "server/http/worker_pool.h"

namespace iterand {
namespace {

// Threads for answers that take milliseconds and for those that wait for the engine. Others, of a priority below the
// engine's, are for answers that compute. Explanations are made one at a time, so that their memory is bounded.
constexpr int kQuickThreads = 1;
constexpr int kPreviewThreads = 2;
constexpr int kStatisticsThreads = 1;
constexpr int kExplainThreads = 1;
constexpr int kNiceness = 10;
constexpr std::size_t kMaxWaiting = 64;

const PageFile* FindFile(std::string_view path) {
  for (const PageFile& file : PageFiles()) {
    if (file.path == path) return &file;
  }
  return nullptr;
}

}  // namespace

class PageServer::Impl {
 public:
  Impl(const Options& options, Engine* engine, LiveRows* live) : api_(engine, options.stats, live) {}
  ~Impl() { Stop(); }

  absl::Status Start(const Options& options) {
    const PageRules rules{.is_public = options.is_public,
                          .encrypted = options.tls != nullptr,
                          .check_token = options.check_token,
                          .has_get = [](std::string_view path) { return PageApi::HasGet(path) || FindFile(path); },
                          .has_post = PageApi::HasPost};
    absl::StatusOr<std::unique_ptr<HttpServer>> started =
        HttpServer::Start({.listen = options.listen,
                           .tls = options.tls,
                           .limits = options.limits,
                           .judge = [rules](const HttpHead& head) { return JudgeRequest(head, rules); },
                           .handle = [this](const std::shared_ptr<HttpExchange>& exchange) { Handle(exchange); }});
    if (!started.ok()) return started.status();
    http_ = *std::move(started);
    return absl::OkStatus();
  }

  void Stop() {
    if (http_) http_->Stop();
    for (WorkerPool* const pool : {&quick_, &preview_, &statistics_, &explain_}) pool->Stop();
  }

  const std::string& address() const { return http_->address(); }

 private:
  void Handle(const std::shared_ptr<HttpExchange>& exchange) {
    const std::string& path = exchange->head().path;
    if (const PageFile* const file = FindFile(path)) {
      return exchange->Respond(
          {.content_type = std::string(file->type), .body = std::string(file->content), .may_cache = true});
    }
    if (!PoolFor(path).Post([this, exchange] { api_.Answer(*exchange); })) {
      exchange->Respond(ErrorResponse(absl::UnavailableError("the page's server is busy: try again")));
    }
  }

  WorkerPool& PoolFor(std::string_view path) {
    switch (PageApi::WorkOf(path)) {
      case PageApi::Work::kPreview:
        return preview_;
      case PageApi::Work::kStatistics:
        return statistics_;
      case PageApi::Work::kExplanation:
        return explain_;
      default:
        return quick_;
    }
  }

  const PageApi api_;
  WorkerPool quick_{kQuickThreads, kMaxWaiting, 0};
  WorkerPool preview_{kPreviewThreads, kMaxWaiting, 0};
  WorkerPool statistics_{kStatisticsThreads, kMaxWaiting, kNiceness};
  WorkerPool explain_{kExplainThreads, kMaxWaiting, kNiceness};
  std::unique_ptr<HttpServer> http_;
};

PageServer::PageServer() = default;
PageServer::~PageServer() = default;

absl::StatusOr<std::unique_ptr<PageServer>> PageServer::Start(const Options& options, Engine* engine, LiveRows* live) {
  std::unique_ptr<PageServer> server(new PageServer());
  server->impl_ = std::make_unique<Impl>(options, engine, live);
  if (absl::Status status = server->impl_->Start(options); !status.ok()) return status;
  return server;
}

const std::string& PageServer::address() const { return impl_->address(); }

void PageServer::Stop() { impl_->Stop(); }

}  // namespace iterand
