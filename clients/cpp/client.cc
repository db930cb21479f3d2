#include "clients/cpp/client.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/pem.h"
#include "common/printable.h"
#include "iterand/v1/noise_service.grpc.pb.h"

namespace iterand {
namespace {

constexpr char kStreamMethod[] = "/iterand.v1.NoiseService/Stream";
constexpr char kReadMethod[] = "/iterand.v1.NoiseService/Read";

// What the server may send before anybody reads it, in bytes.
constexpr int kLookahead = 8 << 20;

// Room for one read from the connection, in bytes. gRPC's 8 KiB would make many pieces of a batch; over 128 KiB the
// allocator would ask the system for each.
constexpr int kReadChunk = 64 << 10;

// What malloc may keep of freed memory, in bytes, is twice this.
constexpr std::size_t kKeptBytes = 16 << 20;

// gRPC receives into memory from malloc. As glibc begins, it gives freed memory back to the system as soon as 128 KiB
// lie at the heap's end, and a client that frees a batch for each that comes spends most of its time on page faults.
// The limit rises to twice the size of the largest block that was mapped and freed, up to 64 MiB (mallopt(3),
// M_MMAP_THRESHOLD), as in any process that once had a large array. So one is mapped and freed, untouched. Limits that
// were set by hand stay.
void KeepFreedMemory() {
  static const bool once = [] {
    void* volatile block = std::malloc(kKeptBytes);
    std::free(block);
    return true;
  }();
  static_cast<void>(once);
}

absl::Status ToAbsl(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), Printable(status.error_message()));
}

// gRPC takes an address without a port for one with port 443, a port above 65 535 for the rest by 65 536, and a URL for
// a host's name.
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
                     "\": host:port or unix:path is wanted, such as localhost:50051, with a port from 1 to 65535"));
  }
  return absl::OkStatus();
}

// What a channel encrypts with. gRPC would only fail to connect with files that cannot be used.
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

// Why a channel has no connection, with what may help. A call on it is told at once.
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
  // TLS has no part in it where there is nobody to speak to.
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

// gRPC ends the process for metadata that a header cannot carry.
absl::Status CheckToken(const std::string& token) {
  for (const char character : token) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(character))) {
      return absl::InvalidArgumentError(
          "the token has a character that no header can carry: printable ASCII in one line is wanted");
    }
  }
  return absl::OkStatus();
}

template <typename Message>
grpc::ByteBuffer Serialize(const Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

// ---- BatchReader ---------------------------------------------------------------------------------------------------

// Driven by one thread, the reading one: it waits on the connection itself, so that a batch costs no handing over from
// gRPC's threads. Without prefetching it is the thread that calls Next, and between calls nobody reads: what the server
// sends meanwhile, up to kLookahead bytes, waits in the kernel and in gRPC's buffers.
struct BatchReader::Call {
  // What a completion queue gives back.
  enum Tag : std::intptr_t { kRequest = 1, kRead, kFinish };

  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
  grpc::ByteBuffer incoming;  // being read, unless done
  bool done = false;
  grpc::Status status;  // if done

  std::thread reader;  // if it reads ahead
  std::mutex mutex;    // of what follows
  std::condition_variable changed;
  std::deque<Batch> ahead;
  std::size_t limit = 0;                    // of `ahead`
  std::vector<Batch> spent;                 // for the reading thread to free
  std::optional<absl::StatusOr<bool>> end;  // after `ahead`, as Receive says
  bool cancelled = false;

  static void* ToTag(Tag tag) { return reinterpret_cast<void*>(tag); }  // NOLINT(performance-no-int-to-ptr)

  void Start(grpc::GenericStub& stub, const grpc::ByteBuffer& request) {
    context.set_initial_metadata_corked(true);  // sent with the request
    stream = stub.PrepareCall(&context, kStreamMethod, &queue);
    stream->StartCall(nullptr);
    stream->WriteLast(request, grpc::WriteOptions(), ToTag(kRequest));
    StartRead();
  }

  void StartRead() { stream->Read(&incoming, ToTag(kRead)); }

  // Waits until what was started is over, and says whether it went well.
  bool Wait(Tag tag) {
    void* found = nullptr;
    bool ok = false;
    while (queue.Next(&found, &ok) && found != ToTag(tag)) {
    }
    return ok;
  }

  // Waits for the batch that is being read: false at the stream's end, or how it ended.
  absl::StatusOr<bool> Receive(Batch& batch) {
    grpc::ByteBuffer message;
    if (!Read(message)) {
      if (!status.ok()) return ToAbsl(status);
      return false;
    }
    if (absl::Status parsed = batch.Parse(message); !parsed.ok()) return parsed;
    return true;
  }

  // False at the stream's end; `status` is then known.
  bool Read(grpc::ByteBuffer& message) {
    if (done) return false;
    if (Wait(kRead)) {
      message.Swap(&incoming);
      StartRead();
      return true;
    }
    stream->Finish(&status, ToTag(kFinish));
    Wait(kFinish);
    done = true;
    return false;
  }

  // Has a thread of its own read up to `batches` ahead. When it is that far ahead it goes on only after half of them
  // are taken, since waking it costs the taker more than all else.
  void StartPrefetch(int batches) {
    limit = static_cast<std::size_t>(batches);
    reader = std::thread([this] {
      std::vector<Batch> garbage;
      for (absl::StatusOr<bool> more = true; more.ok() && *more; garbage.clear()) {
        Batch batch;
        more = Receive(batch);
        std::unique_lock lock(mutex);
        if (more.ok() && *more) {
          ahead.push_back(std::move(batch));
        } else {
          end = more;
        }
        changed.notify_all();
        if (ahead.size() == limit) changed.wait(lock, [&] { return ahead.size() <= limit / 2 || cancelled; });
        garbage.swap(spent);
      }
    });
  }

  // The next batch, waiting for it, as Receive. An end stays one.
  absl::StatusOr<bool> Take(Batch& batch) {
    std::unique_lock lock(mutex);
    if (reader.joinable()) changed.wait(lock, [&] { return !ahead.empty() || end || cancelled; });
    if (cancelled) return absl::CancelledError("the stream was cancelled");
    if (ahead.empty() && end) return *end;
    if (!reader.joinable()) {
      lock.unlock();
      absl::StatusOr<bool> more = Receive(batch);
      if (!more.ok() || !*more) end = more;
      return more;
    }
    spent.push_back(std::exchange(batch, std::move(ahead.front())));
    ahead.pop_front();
    if (ahead.size() == limit / 2) changed.notify_all();
    return true;
  }

  // What was read ahead is dropped.
  void Cancel() {
    context.TryCancel();
    const std::lock_guard lock(mutex);
    cancelled = true;
    changed.notify_all();
  }

  ~Call() {
    Cancel();
    if (reader.joinable()) reader.join();
    grpc::ByteBuffer message;
    while (Read(message)) {
    }
    queue.Shutdown();
    void* found = nullptr;
    bool ok = false;
    while (queue.Next(&found, &ok)) {
    }
  }
};

BatchReader::BatchReader(std::unique_ptr<Call> call, std::uint64_t start)
    : call_(std::move(call)), next_index_(start) {}

BatchReader::~BatchReader() = default;

void BatchReader::Cancel() { call_->Cancel(); }

absl::StatusOr<bool> BatchReader::Next(Batch& batch) {
  if (const absl::StatusOr<bool> more = call_->Take(batch); !more.ok() || !*more) return more;
  next_index_ = batch.first_index() + static_cast<std::uint64_t>(batch.rows()) * batch.stride();
  return true;
}

// ---- Client --------------------------------------------------------------------------------------------------------

class Client::Impl {
 public:
  explicit Impl(std::shared_ptr<grpc::Channel> channel)
      : stub(v1::NoiseService::NewStub(channel)), generic(std::move(channel)) {}

  void Authorize(grpc::ClientContext& context) const {
    if (!token.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  }

  std::unique_ptr<v1::NoiseService::Stub> stub;
  grpc::GenericStub generic;
  std::string token;
};

Client::Client() = default;
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& address, const ClientOptions& options) {
  if (absl::Status status = CheckAddress(address); !status.ok()) return status;
  if (absl::Status status = CheckToken(options.token); !status.ok()) return status;
  KeepFreedMemory();
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  grpc::ChannelArguments arguments;
  const bool client_cert = !options.tls_cert_file.empty() || !options.tls_key_file.empty();
  const bool tls = options.tls || !options.ca_file.empty() || client_cert;
  if (tls) {
    const absl::StatusOr<grpc::SslCredentialsOptions> ssl = TlsOptions(options);
    if (!ssl.ok()) return ssl.status();
    credentials = grpc::SslCredentials(*ssl);
    if (!options.tls_server_name.empty()) arguments.SetSslTargetNameOverride(options.tls_server_name);
  }
  arguments.SetMaxReceiveMessageSize(-1);  // the server's limit is enough
  // Each client has a connection of its own, so that clients of one process do not share one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookahead);
  arguments.SetInt(GRPC_ARG_TCP_READ_CHUNK_SIZE, kReadChunk);
  // Batches in few frames: of the default 16 KiB, a batch of 1 MiB would take 64.
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  // A server whose host is gone is noticed within these times together, in ms.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  // A server that is being started is found soon.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  std::shared_ptr<grpc::Channel> channel = grpc::CreateCustomChannel(address, credentials, arguments);
  if (!channel->WaitForConnected(std::chrono::system_clock::now() + options.connect_timeout)) {
    return absl::UnavailableError(absl::StrCat("no iterand server answers at ", address, " within ",
                                               static_cast<double>(options.connect_timeout.count()) / 1000, " s",
                                               WhyNotConnected(channel, tls, client_cert)));
  }
  std::unique_ptr<Client> client(new Client());
  client->impl_ = std::make_unique<Impl>(std::move(channel));
  client->impl_->token = options.token;
  return client;
}

absl::StatusOr<std::unique_ptr<BatchReader>> Client::Stream(const v1::StreamRequest& request, int prefetch) {
  if (prefetch < 0) return absl::InvalidArgumentError(absl::StrCat("prefetch ", prefetch, ": 0 or more is wanted"));
  auto call = std::make_unique<BatchReader::Call>();
  impl_->Authorize(call->context);
  call->Start(impl_->generic, Serialize(request));
  if (prefetch > 0) call->StartPrefetch(prefetch);
  return std::unique_ptr<BatchReader>(new BatchReader(std::move(call), request.start()));
}

absl::StatusOr<Batch> Client::Read(const v1::ReadRequest& request) {
  grpc::ClientContext context;
  impl_->Authorize(context);
  grpc::ByteBuffer bytes = Serialize(request);
  grpc::ByteBuffer message;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  grpc::Status status;
  impl_->generic.UnaryCall(&context, kReadMethod, grpc::StubOptions(), &bytes, &message, [&](grpc::Status end) {
    std::lock_guard lock(mutex);
    status = std::move(end);
    done = true;
    changed.notify_one();
  });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return done; });
  }
  if (!status.ok()) return ToAbsl(status);
  Batch batch;
  if (absl::Status parsed = batch.Parse(message); !parsed.ok()) return parsed;
  return batch;
}

absl::StatusOr<v1::DescribeResponse> Client::Describe(const v1::DescribeRequest& request) {
  grpc::ClientContext context;
  impl_->Authorize(context);
  v1::DescribeResponse response;
  const grpc::Status status = impl_->stub->Describe(&context, request, &response);
  if (!status.ok()) return ToAbsl(status);
  return response;
}

absl::Status Client::Execute(const v1::ExecuteRequest& request,
                             absl::FunctionRef<bool(const v1::ExecuteResult&)> sink) {
  grpc::ClientContext context;
  impl_->Authorize(context);
  const std::unique_ptr<grpc::ClientReader<v1::ExecuteResponse>> reader = impl_->stub->Execute(&context, request);
  v1::ExecuteResponse response;
  bool wanted = true;
  while (reader->Read(&response)) {
    for (const v1::ExecuteResult& result : response.results()) {
      if (wanted && !sink(result)) {
        wanted = false;
        context.TryCancel();
      }
    }
  }
  const absl::Status status = ToAbsl(reader->Finish());
  return wanted ? status : absl::CancelledError("the call was given up");
}

}  // namespace iterand
