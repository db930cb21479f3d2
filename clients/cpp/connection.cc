#include "clients/cpp/connection.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "clients/cpp/proxy.h"
#include "common/pem.h"
#include "common/printable.h"
#include "common/rpc/grpc_status.h"
#include "common/status_message.h"
#include "common/token_file.h"
#include "iterand/v1/noise_service.grpc.pb.h"

namespace iterand {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr char kHealthMethod[] = "/grpc.health.v1.Health/Check";

// What the server may send before the client reads it, in bytes.
constexpr int kLookahead = 8 << 20;

// Room for one read from the connection, in bytes. gRPC's 8 KiB would split a batch into many pieces. Over 128 KiB the
// allocator would ask the system for each.
constexpr int kReadChunk = 64 << 10;

double Seconds(milliseconds time) { return static_cast<double>(time.count()) / 1000; }

// gRPC takes port 443 for an address without a port, a port above 65 535 modulo 65 536, and a URL for a host's name.
absl::Status CheckAddress(const std::string& address) {
  for (const std::string socket : {"unix:", "unix-abstract:"}) {
    if (absl::StartsWith(address, socket) && address.size() > socket.size()) return absl::OkStatus();
  }
  const std::size_t colon = address.rfind(':');
  // An IPv6 address without brackets has colons, and no port.
  const bool bare_ipv6 =
      address.find(':') != colon && address.find_first_not_of("0123456789abcdefABCDEF:") == std::string::npos;
  int port = 0;
  if (colon == std::string::npos || colon == 0 || bare_ipv6 || absl::StartsWith(address, "http://") ||
      absl::StartsWith(address, "https://") || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 1 ||
      port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", address,
                     "\": must be host:port or unix:path, such as localhost:50051, with a port from 1 to 65535"));
  }
  return absl::OkStatus();
}

// What a channel encrypts with. Files are checked here, since gRPC would only fail to connect with unusable ones.
absl::StatusOr<grpc::SslCredentialsOptions> TlsOptions(const ClientOptions& options) {
  grpc::SslCredentialsOptions ssl;
  if (!options.ca_file.empty()) {
    absl::StatusOr<std::string> authorities = ReadAuthorities(options.ca_file);
    if (!authorities.ok()) return authorities.status();
    ssl.pem_root_certs = *std::move(authorities);
  }
  if (options.tls_cert_file.empty() != options.tls_key_file.empty()) {
    return absl::InvalidArgumentError("a client certificate needs both a certificate file and a key file");
  }
  if (!options.tls_cert_file.empty()) {
    absl::StatusOr<KeyPair> identity = ReadKeyPair(options.tls_cert_file, options.tls_key_file);
    if (!identity.ok()) return identity.status();
    ssl.pem_cert_chain = std::move(identity->cert);
    ssl.pem_private_key = std::move(identity->key);
  }
  return ssl;
}

// Explains why a channel is not connected, and what may help. A call on such a channel returns the reason immediately.
std::string WhyNotConnected(const std::shared_ptr<grpc::Channel>& channel, bool tls, bool client_cert) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  v1::DescribeResponse response;
  const grpc::Status status = v1::NoiseService::NewStub(channel)->Describe(&context, {}, &response);
  // Otherwise it is still trying.
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return "";
  // The system's or the TLS library's words come last: "failed to connect to all addresses; last error: UNKNOWN:
  // ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused".
  const std::string& message = status.error_message();
  const std::size_t last = message.rfind(": ");
  std::string why = Printable(last == std::string::npos ? message : message.substr(last + 2));
  if (absl::StartsWith(why, "error:")) why = why.substr(why.rfind(':') + 1);
  // TLS is not to blame if there is no peer to speak to.
  for (const char* nobody : {"DNS resolution failed", "Failed to connect to remote host", "No such file or directory",
                             "Connection refused", "empty address list"}) {
    if (absl::StrContains(message, nobody)) return absl::StrCat(": ", why);
  }
  if (!tls) return absl::StrCat(": ", why, " (if it uses TLS, add --tls or --ca-file)");
  return absl::StrCat(": ", why, " (it must be a server with TLS whose certificate is trusted and names the host; ",
                      client_cert
                          ? "if it asks for client certificates, one of its authorities must have signed this one)"
                          : "if it asks for client certificates, add --tls-cert and --tls-key)");
}

// The token to send; empty for none. gRPC would abort the process for metadata that a header cannot carry.
absl::StatusOr<std::string> TokenOf(const ClientOptions& options) {
  if (!options.token_file.empty()) {
    if (!options.token.empty()) return absl::InvalidArgumentError("token and token_file are given: use one of them");
    absl::StatusOr<std::vector<std::string>> tokens = ReadTokenFile(options.token_file);
    if (!tokens.ok()) return tokens.status();
    return std::move(tokens->front());
  }
  for (const char character : options.token) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(character))) {
      return absl::InvalidArgumentError(
          "the token has a character that no header can carry: it must be printable ASCII in one line");
    }
  }
  return options.token;
}

absl::Status CheckOptions(const ClientOptions& options) {
  if (options.retry.attempts < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("retry.attempts is ", options.retry.attempts, "; it must be at least 0"));
  }
  for (const auto& [name, value] :
       {std::pair("connect_timeout", options.connect_timeout), std::pair("keepalive_time", options.keepalive_time),
        std::pair("keepalive_timeout", options.keepalive_timeout),
        std::pair("retry.first_wait", options.retry.first_wait),
        std::pair("retry.longest_wait", options.retry.longest_wait)}) {
    if (value < milliseconds(0)) {
      return absl::InvalidArgumentError(absl::StrCat(name, " is ", value.count(), " ms; it must not be negative"));
    }
  }
  return absl::OkStatus();
}

bool HasClientCert(const ClientOptions& options) {
  return !options.tls_cert_file.empty() || !options.tls_key_file.empty();
}

bool UsesTls(const ClientOptions& options) { return options.tls || !options.ca_file.empty() || HasClientCert(options); }

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const ClientOptions& options) {
  if (!UsesTls(options)) return grpc::InsecureChannelCredentials();
  const absl::StatusOr<grpc::SslCredentialsOptions> ssl = TlsOptions(options);
  if (!ssl.ok()) return ssl.status();
  return grpc::SslCredentials(*ssl);
}

grpc::ChannelArguments Arguments(const ClientOptions& options, bool proxy) {
  grpc::ChannelArguments arguments;
  if (!options.tls_server_name.empty()) arguments.SetSslTargetNameOverride(options.tls_server_name);
  arguments.SetMaxReceiveMessageSize(-1);  // the server's limit is enough
  // Each channel has a connection of its own. Clients of one process share none, and the channel that follows a silent
  // one makes a new connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookahead);
  arguments.SetInt(GRPC_ARG_TCP_READ_CHUNK_SIZE, kReadChunk);
  // Batches in few frames: of the default 16 KiB, a batch of 1 MiB would take 64.
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  // How long one attempt to connect may take. A server that is being started is found soon.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   static_cast<int>(std::clamp<std::int64_t>(options.connect_timeout.count(), 1, 86'400'000)));
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, proxy ? 1 : 0);
  return arguments;
}

// The status of a call. If no server answered, it names the proxy that the call goes through.
absl::Status StatusOf(const grpc::Status& status, const Link& link) {
  absl::Status result = ToAbsl(status);
  if (!absl::IsUnavailable(result) || link.where == link.address) return result;
  return WithMessage(result, absl::StrCat(link.where, ": ", result.message()));
}

}  // namespace

// ---- Connection ----------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<Connection>> Connection::Make(std::vector<std::string> addresses,
                                                             const ClientOptions& options) {
  if (addresses.empty()) return absl::InvalidArgumentError("the list of addresses is empty");
  for (const std::string& address : addresses) {
    if (absl::Status status = CheckAddress(address); !status.ok()) return status;
  }
  absl::StatusOr<std::string> token = TokenOf(options);
  if (!token.ok()) return token.status();
  if (absl::Status status = CheckOptions(options); !status.ok()) return status;
  absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> credentials = Credentials(options);
  if (!credentials.ok()) return credentials.status();
  ClientOptions resolved = options;
  resolved.token = *std::move(token);
  return std::shared_ptr<Connection>(new Connection(std::move(addresses), resolved, *std::move(credentials)));
}

absl::Status Connection::WaitForServer() {
  std::string failures;
  for (std::size_t tried = 0; tried < addresses_.size(); ++tried) {
    const std::shared_ptr<Link> to = link();
    if (to->channel->WaitForConnected(std::chrono::system_clock::now() + options_.connect_timeout)) {
      return absl::OkStatus();
    }
    absl::StrAppend(&failures, tried > 0 ? "; " : "", "no iterand server answers at ", to->where, " within ",
                    Seconds(options_.connect_timeout), " s",
                    WhyNotConnected(to->channel, UsesTls(options_), HasClientCert(options_)));
    Turn(to, /*silent=*/false);
  }
  return absl::UnavailableError(failures);
}

std::shared_ptr<Link> Connection::link() {
  const std::lock_guard lock(mutex_);
  if (link_ == nullptr) {
    const std::string& address = addresses_[current_];
    const std::optional<Proxy> proxy = ProxyFor(address);
    link_ = std::make_shared<Link>(
        address,
        proxy ? absl::StrCat(address, " (through the proxy ", proxy->url, ", which ", proxy->variable, " names)")
              : address,
        grpc::CreateCustomChannel(address, credentials_, Arguments(options_, proxy.has_value())));
  }
  return link_;
}

void Connection::Turn(const std::shared_ptr<Link>& failed, bool silent) {
  const std::lock_guard lock(mutex_);
  if (link_ != failed || (addresses_.size() == 1 && !silent)) return;
  current_ = (current_ + 1) % addresses_.size();
  link_ = nullptr;
}

// ---- ServerStream --------------------------------------------------------------------------------------------------

// A health check in progress.
struct ServerStream::Check {
  grpc::ClientContext context;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> call;
  grpc::ByteBuffer response;
  grpc::Status status;
};

ServerStream::ServerStream(Connection& connection, const char* method, const grpc::ByteBuffer& request,
                           const Deadline& deadline)
    : link_(connection.link()),
      keepalive_time_(connection.options().keepalive_time),
      keepalive_timeout_(connection.options().keepalive_timeout),
      patience_(std::max(keepalive_time_, connection.options().connect_timeout)) {
  const std::string& token = connection.options().token;
  if (!token.empty()) context_.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  if (deadline) context_.set_deadline(std::chrono::system_clock::now() + (*deadline - steady_clock::now()));
  context_.set_initial_metadata_corked(true);  // sent with the request
  stream_ = link_->stub.PrepareCall(&context_, method, &queue_);
  stream_->StartCall(nullptr);
  stream_->WriteLast(request, grpc::WriteOptions(), Address(kRequest));
  StartRead();
}

ServerStream::~ServerStream() {
  Cancel();
  grpc::ByteBuffer message;
  while (Read(message)) {
  }
  if (check_ != nullptr) check_->context.TryCancel();
  queue_.Shutdown();
  void* found = nullptr;
  bool ok = false;
  while (queue_.Next(&found, &ok)) {
  }
}

void ServerStream::StartRead() { stream_->Read(&incoming_, Address(kRead)); }

bool ServerStream::Read(grpc::ByteBuffer& message) {
  if (done_) return false;
  if (Wait(kRead)) {
    message.Swap(&incoming_);
    StartRead();
    return true;
  }
  grpc::Status status;
  stream_->Finish(&status, Address(kFinish));
  Wait(kFinish);
  done_ = true;
  status_ = silent_ ? absl::UnavailableError(
                          absl::StrCat(link_->where, ": the server is silent: it did not answer a health check within ",
                                       Seconds(keepalive_timeout_), " s"))
                    : StatusOf(status, *link_);
  return false;
}

void* ServerStream::Address(Tag tag) {
  static std::array<char, kCheck + 1> addresses;
  return &addresses[tag];
}

// Waits until the operation that was started is over, and returns whether it succeeded.
bool ServerStream::Wait(Tag tag) {
  for (;;) {
    void* found = nullptr;
    bool ok = false;
    const milliseconds limit = link_->heard ? keepalive_time_ : patience_;
    switch (queue_.AsyncNext(&found, &ok, std::chrono::system_clock::now() + limit)) {
      case grpc::CompletionQueue::GOT_EVENT:
        if (found == Address(tag)) {
          if (tag == kRead && ok) link_->heard = true;
          return ok;
        }
        if (found == Address(kCheck)) EndCheck();
        break;
      case grpc::CompletionQueue::TIMEOUT:
        if (check_ == nullptr && !silent_) StartCheck();
        break;
      case grpc::CompletionQueue::SHUTDOWN:
        return false;
    }
  }
}

void ServerStream::StartCheck() {
  check_ = std::make_unique<Check>();
  check_->context.set_deadline(std::chrono::system_clock::now() + keepalive_timeout_);
  check_->call = link_->stub.PrepareUnaryCall(&check_->context, kHealthMethod, grpc::ByteBuffer(), &queue_);
  check_->call->StartCall();
  check_->call->Finish(&check_->response, &check_->status, Address(kCheck));
}

void ServerStream::EndCheck() {
  const grpc::StatusCode code = check_->status.error_code();
  check_.reset();
  if (code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::DEADLINE_EXCEEDED) {
    silent_ = true;
    context_.TryCancel();
  } else {
    link_->heard = true;  // any other answer is one
  }
}

// ---- Attempts ------------------------------------------------------------------------------------------------------

Attempts::Attempts(Connection& connection, std::optional<milliseconds> timeout)
    : connection_(connection),
      timeout_(timeout),
      begin_(steady_clock::now()),
      deadline_(timeout ? Deadline(begin_ + *timeout) : std::nullopt) {}

void Attempts::Succeeded(const Link& link) {
  if (lost_ && connection_.options().report) {
    const auto waited = std::chrono::duration_cast<milliseconds>(steady_clock::now() - *lost_);
    connection_.options().report(absl::StrCat(link.where, " answers, after ", Seconds(waited), " s"));
  }
  lost_.reset();
  count_ = 0;
  connection_.reached = true;
}

absl::Status Attempts::TooLate(const Link& link, const std::string& more) const {
  return absl::DeadlineExceededError(absl::StrCat(link.where, ": no complete answer within the timeout of ",
                                                  Seconds(timeout_.value_or(milliseconds(0))), " s", more));
}

absl::Status Attempts::Failed(const ServerStream& call, const absl::Status& failure,
                              const std::function<void(milliseconds)>& pause) {
  const ClientOptions& options = connection_.options();
  if (failure.code() == absl::StatusCode::kDeadlineExceeded && timeout_) return TooLate(*call.link(), "");
  if (failure.code() != absl::StatusCode::kUnavailable || ++count_ > options.retry.attempts) return failure;
  const bool tried_all = count_ >= static_cast<int>(connection_.addresses().size());
  const steady_clock::time_point now = steady_clock::now();
  if (!connection_.reached && tried_all && now - begin_ >= options.connect_timeout) return failure;
  const double factor = std::pow(2.0, std::min(count_ - 1, 62));
  const auto wait = milliseconds(static_cast<std::int64_t>(
      std::min<double>(options.retry.longest_wait.count(), options.retry.first_wait.count() * factor)));
  if (deadline_ && now + wait >= *deadline_) {
    pause(std::chrono::duration_cast<milliseconds>(std::max(*deadline_ - now, steady_clock::duration(0))));
    return TooLate(*call.link(), absl::StrCat("; the last attempt failed: ", failure.message()));
  }
  if (!lost_) {
    lost_ = now;
    if (options.report) {
      options.report(absl::StrCat("waiting for a server (", absl::StrJoin(connection_.addresses(), ", "),
                                  "): ", failure.message()));
    }
  }
  connection_.Turn(call.link(), call.silent());
  pause(wait);
  return absl::OkStatus();
}

}  // namespace iterand
