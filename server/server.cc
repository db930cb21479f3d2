#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/read_file.h"
#include "common/token_file.h"
#include "iterate/snapshots.h"
#include "server/call_watch.h"
#include "server/connection_guard.h"
#include "server/connection_setup.h"
#include "server/engine/engine.h"
#include "server/http/page_server.h"
#include "server/listen_address.h"
#include "server/listen_sockets.h"
#include "server/log.h"
#include "server/memory_trimmer.h"
#include "server/metrics.h"
#include "server/service.h"
#include "server/stream_call.h"
#include "server/tls.h"

namespace iterand {
namespace {

constexpr std::size_t kLargestBatchBytes = std::size_t{1} << 30;
constexpr auto kCutAfterDrain = std::chrono::milliseconds(500);
constexpr std::size_t kCallBytes = std::size_t{256} << 10;     // that a call holds in gRPC, roughly
constexpr std::size_t kMinStreamBytes = std::size_t{1} << 20;  // the default preset takes 0.8 MB

absl::Status CheckOptions(const ServerOptions& options) {
  if (options.threads < 0 || options.threads > 4096) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads (--threads) is ", options.threads, "; it must be 0 (all cores) to 4096"));
  }
  if (options.max_streams < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_streams (--max-streams) is ", options.max_streams, "; it must be at least 1"));
  }
  if (options.max_connections < 1 || options.max_connections > 1'000'000) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_connections (--max-connections) is ", options.max_connections, "; it must be 1 to 1000000"));
  }
  if (options.max_connections_per_peer < 1) {
    return absl::InvalidArgumentError(absl::StrCat("max_connections_per_peer (--max-connections-per-peer) is ",
                                                   options.max_connections_per_peer, "; it must be at least 1"));
  }
  if (options.handshake_timeout < std::chrono::milliseconds(1) || options.handshake_timeout > std::chrono::hours(1)) {
    return absl::InvalidArgumentError(absl::StrCat("handshake_timeout (--handshake-timeout) is ",
                                                   options.handshake_timeout.count(),
                                                   " ms; it must be 1 ms to 1 hour"));
  }
  if (options.request_timeout < std::chrono::milliseconds(1) || options.request_timeout > std::chrono::hours(1)) {
    return absl::InvalidArgumentError(absl::StrCat("request_timeout (--request-timeout) is ",
                                                   options.request_timeout.count(), " ms; it must be 1 ms to 1 hour"));
  }
  if (options.max_batch_bytes < 1024 || options.max_batch_bytes > kLargestBatchBytes) {
    return absl::InvalidArgumentError(absl::StrCat("max_batch_bytes (--max-batch-bytes) is ", options.max_batch_bytes,
                                                   "; it must be 1024 to ", kLargestBatchBytes));
  }
  if (options.max_stream_bytes < kMinStreamBytes) {
    return absl::InvalidArgumentError(absl::StrCat("max_stream_bytes (--max-stream-bytes) is ",
                                                   options.max_stream_bytes, "; it must be at least ", kMinStreamBytes,
                                                   ", in which a stream of the default preset fits"));
  }
  // CivetWeb is usually built without IPv6.
  if (const std::string& listen = options.metrics_listen;
      !listen.empty() && (!HasPort(listen) || absl::StrContains(listen, ']'))) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot serve metrics on ", listen,
                     ": it must be HOST:PORT, with a name or an IPv4 address and a port from 0 to 65535"));
  }
  if (!std::ranges::count(kLogLevels, options.log_level)) {
    return absl::InvalidArgumentError(absl::StrCat("log_level (--log-level) is \"", options.log_level,
                                                   "\"; it must be one of ", absl::StrJoin(kLogLevels, ", ")));
  }
  return absl::OkStatus();
}

// Refuses options with which anybody on the network could use the server, or read along.
absl::Status CheckPublic(const ServerOptions& options, const std::string& listen) {
  const bool encrypted = !options.tls_cert_file.empty();
  const bool authenticated = !options.token_file.empty() || !options.tls_client_ca_file.empty();
  if (options.insecure_public || (encrypted && authenticated)) return absl::OkStatus();
  const absl::StatusOr<bool> is_public = IsPublic(listen);
  if (!is_public.ok()) return is_public.status();
  if (!*is_public) return absl::OkStatus();
  std::vector<std::string> missing;
  if (!encrypted) missing.emplace_back("TLS (--tls-cert and --tls-key)");
  if (!authenticated) missing.emplace_back("a token (--token-file) or client certificates (--tls-client-ca)");
  return absl::InvalidArgumentError(
      absl::StrCat("cannot listen on ", listen, ", which other machines can reach, without ",
                   absl::StrJoin(missing, " and without "), "; add what is missing, listen on 127.0.0.1, or allow it ",
                   "with --insecure-public"));
}

// Checks the address of the page, which has the rules of --listen.
absl::Status CheckHttp(const ServerOptions& options) {
  if (!HasPort(options.http_listen) || absl::StartsWith(options.http_listen, "unix:")) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot serve the page on ", options.http_listen,
                     ": it must be HOST:PORT or [IPV6]:PORT, with a port from 0 to 65535"));
  }
  return CheckPublic(options, options.http_listen);
}

TlsFiles FilesOf(const ServerOptions& options) {
  return {.cert = options.tls_cert_file, .key = options.tls_key_file, .client_ca = options.tls_client_ca_file};
}

void WarnOfReadableSecrets(const ServerOptions& options) {
  for (const std::string& file : {options.tls_key_file, options.token_file}) {
    if (const std::string warning = file.empty() ? "" : SecretFileWarning(file); !warning.empty()) Log().warn(warning);
  }
}

// What the server knows to be in use, roughly, in bytes.
std::size_t BytesInUse(const ServerStats& stats) {
  return stats.held_bytes + stats.cache_bytes + stats.used_stream_bytes + stats.idle_stream_bytes +
         static_cast<std::size_t>(stats.streams_open) * kCallBytes;
}

void BoundRequests(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  // A call whose request nobody reads yet buffers 64 KiB. With this on, clients may make that many times more.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // 16 MiB of a compressed request could become 16 GiB.
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder.SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
}

void EnablePlugins() {
  static const bool once = [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  static_cast<void>(once);
}

}  // namespace

class Server::Impl {
 public:
  absl::Status Start(const ServerOptions& start_options);
  void Shutdown(std::chrono::milliseconds drain);
  void Wait();
  absl::Status Reload();
  absl::Status MakeService();
  absl::Status StartGrpc(ListenSockets sockets);
  absl::Status StartPage();
  ServerStats Stats() const;

  ServerOptions options;
  std::shared_ptr<ServerTls> tls;  // null without TLS
  std::shared_ptr<grpc::ServerCredentials> credentials;
  std::string address_file;
  std::string address;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<NoiseService> service;
  std::unique_ptr<CallWatch> calls;
  std::unique_ptr<ConnectionGuard> connections;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<MetricsServer> metrics;
  std::unique_ptr<PageServer> page;
  std::unique_ptr<MemoryTrimmer> trimmer;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool stopped_ = false;
};

ServerStats Server::Impl::Stats() const {
  ServerStats stats = service->stats();
  stats.connections = connections->stats();
  return stats;
}

absl::Status Server::Impl::Start(const ServerOptions& start_options) {
  options = start_options;
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  Log().set_level(spdlog::level::from_str(options.log_level));
  if (absl::Status status = CheckListen(options.listen); !status.ok()) return status;
  if (absl::Status status = CheckPublic(options, options.listen); !status.ok()) return status;
  if (!options.http_listen.empty()) {
    if (absl::Status status = CheckHttp(options); !status.ok()) return status;
  }
  absl::StatusOr<ListenSockets> sockets = ListenSockets::Bind(options.listen);
  if (!sockets.ok()) return sockets.status();
  absl::StatusOr<std::shared_ptr<ServerTls>> loaded = ServerTls::Load(FilesOf(options));
  if (!loaded.ok()) return loaded.status();
  tls = *std::move(loaded);
  credentials = tls != nullptr ? ServerTls::Credentials(tls) : grpc::InsecureServerCredentials();
  if (absl::Status status = MakeService(); !status.ok()) return status;
  if (absl::Status status = StartGrpc(*std::move(sockets)); !status.ok()) return status;

  if (!options.metrics_listen.empty()) {
    absl::StatusOr<std::unique_ptr<MetricsServer>> started =
        MetricsServer::Start(options.metrics_listen, engine->threads(), [this] { return Stats(); });
    if (!started.ok()) {
      return absl::Status(started.status().code(),
                          absl::StrCat(started.status().message(), ": ", WhyNot(options.metrics_listen)));
    }
    metrics = *std::move(started);
  }
  if (!options.http_listen.empty()) {
    if (absl::Status status = StartPage(); !status.ok()) return status;
  }
  if (!options.address_file.empty()) {
    if (absl::Status status = WriteAddressFile(options.address_file, address); !status.ok()) return status;
    address_file = options.address_file;
  }
  return absl::OkStatus();
}

absl::Status Server::Impl::MakeService() {
  ServiceOptions service_options;
  service_options.max_streams = options.max_streams;
  service_options.max_batch_bytes = options.max_batch_bytes;
  service_options.request_timeout = options.request_timeout;
  if (!options.token_file.empty()) {
    absl::StatusOr<std::vector<std::string>> tokens = ReadTokenFile(options.token_file);
    if (!tokens.ok()) return tokens.status();
    service_options.tokens = *std::move(tokens);
  }
  WarnOfReadableSecrets(options);

  std::shared_ptr<SnapshotFolder> snapshots;
  if (!options.snapshot_dir.empty()) {
    snapshots = std::make_shared<SnapshotFolder>();
    snapshots->path = options.snapshot_dir;
    snapshots->most_bytes = options.snapshot_bytes;
    snapshots->report = [](const std::string& line) { Log().error(line); };
    if (const absl::Status status = snapshots->Check(); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("the snapshot folder (--snapshot-dir) ", status.message()));
    }
  }

  engine = std::make_unique<Engine>(EngineOptions{.threads = options.threads,
                                                  .cache_bytes = options.cache_bytes,
                                                  .readahead_bytes = options.readahead_bytes,
                                                  .max_stream_bytes = options.max_stream_bytes,
                                                  .snapshots = std::move(snapshots),
                                                  .report = [](const std::string& line) { Log().info(line); }});
  service = std::make_unique<NoiseService>(engine.get(), service_options);

  trimmer = std::make_unique<MemoryTrimmer>([this] { return BytesInUse(service->stats()); });
  return absl::OkStatus();
}

absl::Status Server::Impl::StartGrpc(ListenSockets sockets) {
  EnablePlugins();
  grpc::ServerBuilder builder;
  builder.RegisterService(service.get());
  BoundRequests(builder);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, kWriteBufferBytes);
  calls = std::make_unique<CallWatch>(
      [this](const grpc::ServerContextBase& context) { return service->Authorized(context); });
  const ConnectionLimits limits = LimitsOf(options);
  BoundConnections(builder, limits, options.handshake_timeout, calls.get());
  connections = std::make_unique<ConnectionGuard>(std::move(sockets), limits, calls.get());
  auto acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot serve on ", options.listen, ": gRPC did not start"));
  }
  connections->Start(std::move(acceptor));
  // Orchestrators may ask for the service by name. The drain turns both to NOT_SERVING.
  if (grpc::HealthCheckServiceInterface* health = server->GetHealthCheckService()) {
    health->SetServingStatus(v1::NoiseService::service_full_name(), true);
  }
  address = connections->address();
  return absl::OkStatus();
}

absl::Status Server::Impl::StartPage() {
  const absl::StatusOr<bool> is_public = IsPublic(options.http_listen);
  if (!is_public.ok()) return is_public.status();
  PageServer::Options page_options;
  page_options.listen = options.http_listen;
  page_options.is_public = *is_public;
  page_options.tls = tls;
  page_options.limits = options.http_limits;
  page_options.check_token = [this](std::string_view authorization) { return service->CheckToken(authorization); };
  page_options.stats = [this] { return Stats(); };
  absl::StatusOr<std::unique_ptr<PageServer>> started = PageServer::Start(page_options, engine.get(), &service->live());
  if (!started.ok()) return started.status();
  page = *std::move(started);
  return absl::OkStatus();
}

absl::Status Server::Impl::Reload() {
  absl::Status first;
  const auto note = [&first](const absl::Status& status, const std::string& what) {
    if (status.ok()) {
      Log().info("reload: {}", what);
    } else {
      Log().error("reload: {}; what was read before stays in use", std::string(status.message()));
      first.Update(status);
    }
  };
  if (tls != nullptr) {
    note(tls->Reload(),
         absl::StrCat("certificate ", options.tls_cert_file, " and key ", options.tls_key_file,
                      options.tls_client_ca_file.empty() ? "" : ", client authorities ", options.tls_client_ca_file));
  }
  if (!options.token_file.empty()) {
    const absl::StatusOr<std::vector<std::string>> tokens = ReadTokenFile(options.token_file);
    if (tokens.ok()) service->SetTokens(*tokens);
    note(tokens.status(), tokens.ok() ? absl::StrCat("tokens in ", options.token_file, ": ", tokens->size()) : "");
  }
  if (tls == nullptr && options.token_file.empty()) Log().info("reload: the server has neither TLS nor tokens");
  WarnOfReadableSecrets(options);
  return first;
}

void Server::Impl::Shutdown(std::chrono::milliseconds drain) {
  {
    std::unique_lock lock(mutex_);
    if (stopping_) {
      changed_.wait(lock, [this] { return stopped_; });
      return;
    }
    stopping_ = true;
  }
  if (!address_file.empty()) RemoveAddressFile(address_file, address);
  if (page) page->Stop();
  if (server) {
    if (grpc::HealthCheckServiceInterface* health = server->GetHealthCheckService()) health->Shutdown();
    service->Drain();
    connections->StopAccepting();
    // At the end of the drain gRPC cancels the calls, but waits for threads that a flood may keep busy.
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    std::thread cut([&] {
      std::unique_lock lock(mutex);
      changed.wait_for(lock, drain + kCutAfterDrain, [&] { return done; });
      connections->CloseAll();
    });
    server->Shutdown(std::chrono::system_clock::now() + drain);
    {
      std::lock_guard lock(mutex);
      done = true;
    }
    changed.notify_all();
    cut.join();
    server->Wait();
  }
  std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

void Server::Impl::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopped_; });
}

Server::Server() : impl_(std::make_unique<Impl>()) {}

Server::~Server() {
  impl_->Shutdown(std::chrono::milliseconds(0));
  impl_->metrics.reset();
  impl_->page.reset();
  impl_->trimmer.reset();
  impl_->server.reset();
  impl_->connections.reset();
  if (impl_->service) impl_->service->Stop();
  impl_->engine.reset();
  impl_->service.reset();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  std::unique_ptr<Server> server(new Server());
  if (absl::Status status = server->impl_->Start(options); !status.ok()) return status;
  return server;
}

std::string Server::address() const { return impl_->address; }

std::string Server::metrics_address() const { return impl_->metrics ? impl_->metrics->address() : std::string(); }

std::string Server::http_address() const { return impl_->page ? impl_->page->address() : std::string(); }

void Server::Shutdown(std::chrono::milliseconds drain) { impl_->Shutdown(drain); }

absl::Status Server::Reload() { return impl_->Reload(); }

void Server::Wait() { impl_->Wait(); }

ServerStats Server::stats() const { return impl_->Stats(); }

}  // namespace iterand
