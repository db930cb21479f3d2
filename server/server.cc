#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <netdb.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "iterate/snapshots.h"
#include "server/engine.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/second_signal.h"
#include "server/service.h"
#include "server/stream_call.h"

namespace iterand {
namespace {

constexpr std::size_t kLargestBatchBytes = std::size_t{1} << 30;
constexpr std::size_t kSmallestQueueBytes = std::size_t{1} << 20;  // the default preset takes 0.8 MB

absl::StatusOr<std::string> ReadFile(const std::string& what, const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {  // which fails for a file without content, too
    return absl::NotFoundError(
        absl::StrCat("cannot read ", what, " ", path, ": ", errno != 0 ? std::strerror(errno) : "it is empty"));
  }
  return text.str();
}

// Whole or not at all: a reader that polls for the file never sees half an address.
absl::Status WriteAddressFile(const std::string& path, const std::string& address) {
  const std::string draft = absl::StrCat(path, ".", getpid());
  {
    std::ofstream file(draft, std::ios::trunc);
    file << address << "\n";
    if (!file.flush()) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot write the address file ", path, ": ", std::strerror(errno)));
    }
  }
  if (std::rename(draft.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(draft.c_str());
    return absl::InvalidArgumentError(absl::StrCat("cannot write the address file ", path, ": ", std::strerror(error)));
  }
  return absl::OkStatus();
}

// Unless another server has written its own address there since.
void RemoveAddressFile(const std::string& path, const std::string& address) {
  std::string found;
  if (std::getline(std::ifstream(path), found) && found == address) std::remove(path.c_str());
}

// OpenSSL's own asks at the terminal.
int RefusePassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// gRPC would only say that it could not bind.
absl::Status CheckKeyPair(const ServerOptions& options, const std::string& cert_text, const std::string& key_text) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> cert_bio(
      BIO_new_mem_buf(cert_text.data(), static_cast<int>(cert_text.size())), BIO_free);
  const std::unique_ptr<BIO, decltype(&BIO_free)> key_bio(
      BIO_new_mem_buf(key_text.data(), static_cast<int>(key_text.size())), BIO_free);
  bool encrypted = false;
  const std::unique_ptr<X509, decltype(&X509_free)> cert(PEM_read_bio_X509(cert_bio.get(), nullptr, nullptr, nullptr),
                                                         X509_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(key_bio.get(), nullptr, RefusePassphrase, &encrypted), EVP_PKEY_free);
  if (!cert) return absl::InvalidArgumentError(absl::StrCat(options.tls_cert_file, " has no PEM certificate"));
  if (encrypted) {
    return absl::InvalidArgumentError(
        absl::StrCat("the TLS key ", options.tls_key_file, " is encrypted: give one without a passphrase"));
  }
  if (!key) return absl::InvalidArgumentError(absl::StrCat(options.tls_key_file, " has no PEM private key"));
  if (X509_check_private_key(cert.get(), key.get()) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("the TLS certificate ", options.tls_cert_file, " and the key ",
                                                   options.tls_key_file, " do not fit each other"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> Credentials(const ServerOptions& options) {
  if (options.tls_cert_file.empty() && options.tls_key_file.empty()) return grpc::InsecureServerCredentials();
  if (options.tls_cert_file.empty() || options.tls_key_file.empty()) {
    return absl::InvalidArgumentError("TLS needs both a certificate file and a key file");
  }
  const absl::StatusOr<std::string> cert = ReadFile("the TLS certificate", options.tls_cert_file);
  if (!cert.ok()) return cert.status();
  const absl::StatusOr<std::string> key = ReadFile("the TLS key", options.tls_key_file);
  if (!key.ok()) return key.status();
  if (absl::Status status = CheckKeyPair(options, *cert, *key); !status.ok()) return status;
  grpc::SslServerCredentialsOptions ssl;
  ssl.pem_key_cert_pairs.push_back({*key, *cert});
  return grpc::SslServerCredentials(ssl);
}

// Whether an address is HOST:PORT or [IPV6]:PORT. gRPC would take port 443 where there is none, and the rest by 65 536
// of one that is too large.
bool HasPort(const std::string& listen) {
  const std::size_t colon = listen.rfind(':');
  int port = 0;
  // An IPv6 address without brackets has colons, and no port.
  return colon != std::string::npos && colon > 0 && (listen.find(':') == colon || listen[colon - 1] == ']') &&
         absl::SimpleAtoi(listen.substr(colon + 1), &port) && 0 <= port && port <= 65535;
}

// gRPC would take a unix socket away from the server that has it.
absl::Status CheckListen(const std::string& listen) {
  if (absl::StartsWith(listen, "unix:")) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = listen.substr(std::strlen("unix:"));
    if (path.empty() || path.size() >= sizeof(address.sun_path)) {
      return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", listen, ": the path must have 1 to ",
                                                     sizeof(address.sun_path) - 1, " bytes"));
    }
    path.copy(address.sun_path, path.size());
    struct stat file {};
    if (lstat(path.c_str(), &file) == 0 && !S_ISSOCK(file.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", listen, ": there is a ",
                                                     S_ISDIR(file.st_mode) ? "directory" : "file",
                                                     " of that name, which is no socket"));
    }
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (probe < 0) return absl::OkStatus();  // gRPC will fail, too
    const bool in_use = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
                        errno == EAGAIN;  // its queue is full
    close(probe);
    if (!in_use) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("cannot listen on ", listen, ": a server is listening there"));
  }
  if (!HasPort(listen)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot listen on ", listen, ": HOST:PORT, [IPV6]:PORT or unix:PATH is wanted, with a port from 0 to 65535"));
  }
  return absl::OkStatus();
}

// Why nothing can listen there. The libraries that try say only that they failed.
std::string WhyNot(const std::string& listen) {
  if (absl::StartsWith(listen, "unix:")) return "is the directory there and writable?";
  const std::size_t colon = listen.rfind(':');
  std::string host = listen.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), listen.c_str() + colon + 1, &hints, &found);
  if (error != 0) return gai_strerror(error);
  std::string why = "it could not be bound";
  const int probe = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
  if (probe >= 0) {
    const int reuse = 1;
    setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
    if (bind(probe, found->ai_addr, found->ai_addrlen) != 0) why = std::strerror(errno);
    close(probe);
  }
  freeaddrinfo(found);
  return why;
}

absl::Status CheckOptions(const ServerOptions& options) {
  if (options.threads < 0 || options.threads > 4096) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads (--threads) is ", options.threads, "; it must be 0 (all cores) to 4096"));
  }
  if (options.max_streams < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_streams (--max-streams) is ", options.max_streams, "; it must be at least 1"));
  }
  if (options.max_batch_bytes < 1024 || options.max_batch_bytes > kLargestBatchBytes) {
    return absl::InvalidArgumentError(absl::StrCat("max_batch_bytes (--max-batch) is ", options.max_batch_bytes,
                                                   "; it must be 1024 to ", kLargestBatchBytes));
  }
  if (options.queue_bytes < kSmallestQueueBytes) {
    return absl::InvalidArgumentError(absl::StrCat("queue_bytes (--queue) is ", options.queue_bytes,
                                                   "; it must be at least ", kSmallestQueueBytes,
                                                   ", in which a stream of the default preset fits"));
  }
  // CivetWeb is usually built without IPv6.
  if (const std::string& listen = options.metrics_listen;
      !listen.empty() && (!HasPort(listen) || absl::StrContains(listen, ']'))) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot serve metrics on ", listen,
                     ": HOST:PORT is wanted, with a name or an IPv4 address and a port from 0 to 65535"));
  }
  if (!std::ranges::count(kLogLevels, options.log_level)) {
    return absl::InvalidArgumentError(absl::StrCat("log_level (--log-level) is \"", options.log_level,
                                                   "\"; it must be one of ", absl::StrJoin(kLogLevels, ", ")));
  }
  return absl::OkStatus();
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
  absl::Status Start(const ServerOptions& options);
  void Shutdown(std::chrono::milliseconds drain);
  void Wait();

  std::string address_file;
  std::string address;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<NoiseService> service;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<MetricsServer> metrics;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool stopped_ = false;
};

absl::Status Server::Impl::Start(const ServerOptions& options) {
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  Log().set_level(spdlog::level::from_str(options.log_level));
  if (absl::Status status = CheckListen(options.listen); !status.ok()) return status;
  const absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> credentials = Credentials(options);
  if (!credentials.ok()) return credentials.status();

  ServiceOptions service_options;
  service_options.max_streams = options.max_streams;
  service_options.max_batch_bytes = options.max_batch_bytes;
  service_options.request_timeout = options.request_timeout;
  if (!options.auth_token_file.empty()) {
    const absl::StatusOr<std::string> text = ReadFile("the token file", options.auth_token_file);
    if (!text.ok()) return text.status();
    service_options.token = std::string(absl::StripAsciiWhitespace(*text));
    if (service_options.token.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("the token file ", options.auth_token_file, " is empty"));
    }
    for (const char character : service_options.token) {
      if (absl::ascii_isprint(static_cast<unsigned char>(character))) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("the token file ", options.auth_token_file, " must hold one line of printable ASCII"));
    }
  }

  std::shared_ptr<SnapshotFolder> snapshots;
  if (!options.snapshot_folder.empty()) {
    snapshots = std::make_shared<SnapshotFolder>();
    snapshots->path = options.snapshot_folder;
    snapshots->most_bytes = options.snapshot_bytes;
    snapshots->report = [](const std::string& line) { Log().error(line); };
    if (const absl::Status status = snapshots->Check(); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("the snapshot folder (--snapshots) ", status.message()));
    }
  }

  engine = std::make_unique<Engine>(EngineOptions{.threads = options.threads,
                                                  .cache_bytes = options.cache_bytes,
                                                  .prefetch_bytes = options.prefetch_bytes,
                                                  .queue_bytes = options.queue_bytes,
                                                  .snapshots = std::move(snapshots)});
  service = std::make_unique<NoiseService>(engine.get(), service_options);

  EnablePlugins();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.listen, *credentials, &port);
  builder.RegisterService(service.get());
  BoundRequests(builder);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, kWriteBufferBytes);
  // Otherwise two servers could take the same port and share its clients by chance.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // A client whose machine is gone must not keep its lanes.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", options.listen, ": ", WhyNot(options.listen)));
  }
  // Orchestrators may ask for the service by name. The drain turns both to NOT_SERVING.
  if (grpc::HealthCheckServiceInterface* health = server->GetHealthCheckService()) {
    health->SetServingStatus(v1::NoiseService::service_full_name(), true);
  }
  address = absl::StartsWith(options.listen, "unix:")
                ? options.listen
                : absl::StrCat(options.listen.substr(0, options.listen.rfind(':')), ":", port);

  if (!options.metrics_listen.empty()) {
    absl::StatusOr<std::unique_ptr<MetricsServer>> started =
        MetricsServer::Start(options.metrics_listen, engine->threads(), [this] { return service->stats(); });
    if (!started.ok()) {
      return absl::Status(started.status().code(),
                          absl::StrCat(started.status().message(), ": ", WhyNot(options.metrics_listen)));
    }
    metrics = *std::move(started);
  }
  if (!options.address_file.empty()) {
    if (absl::Status status = WriteAddressFile(options.address_file, address); !status.ok()) return status;
    address_file = options.address_file;
  }
  return absl::OkStatus();
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
  if (server) {
    if (grpc::HealthCheckServiceInterface* health = server->GetHealthCheckService()) health->Shutdown();
    service->Drain();
    server->Shutdown(std::chrono::system_clock::now() + drain);
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
  impl_->server.reset();
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

void Server::Shutdown(std::chrono::milliseconds drain) { impl_->Shutdown(drain); }

void Server::Wait() { impl_->Wait(); }

EngineStats Server::stats() const { return impl_->service->stats(); }

absl::Status RunUntilSignal(const ServerOptions& options, std::ostream& out) {
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, &before);

  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  if (server.ok()) {
    out << "listening on " << (*server)->address() << std::endl;
    if (!options.metrics_listen.empty()) out << "metrics on " << (*server)->metrics_address() << std::endl;
    Log().info("serving on {}", (*server)->address());

    int signal = 0;
    sigwait(&signals, &signal);
    Log().info("{}: draining", signal == SIGTERM ? "SIGTERM" : "SIGINT");
    std::thread drain([&] { (*server)->Shutdown(options.drain); });
    // A second signal ends the process as it would without us: the drain is the only thing left to wait for.
    static SecondSignal second;
    second.Reset();
    second.Note();
    const auto end_at_the_second = [](int) {
      if (second.Note() == SecondSignal::Kind::kSecond) std::_Exit(0);
    };
    std::signal(SIGTERM, end_at_the_second);
    std::signal(SIGINT, end_at_the_second);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    drain.join();
    const EngineStats stats = (*server)->stats();
    Log().info("stopped after {} sequences in {} batches", stats.sequences, stats.batches);
    server->reset();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return server.status();
}

}  // namespace iterand
