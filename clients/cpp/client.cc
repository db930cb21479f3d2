#include "clients/cpp/client.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "iterand/v1/noise_service.grpc.pb.h"

namespace iterand {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

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
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::Status Malformed(const std::string& what) {
  return absl::DataLossError(absl::StrCat("the server sent a malformed batch: ", what));
}

std::size_t DtypeBytes(v1::Dtype dtype) {
  switch (dtype) {
    case v1::DTYPE_UINT8:
      return 1;
    case v1::DTYPE_UINT16:
      return 2;
    case v1::DTYPE_UINT32:
      return 4;
    default:
      return 0;
  }
}

// gRPC takes an address without a port for one with port 443, and a URL for a host's name.
absl::Status CheckAddress(const std::string& address) {
  if (!absl::StrContains(address, ':') || absl::StartsWith(address, "http://") ||
      absl::StartsWith(address, "https://")) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", address, "\": host:port or unix:path is wanted, such as localhost:50051"));
  }
  return absl::OkStatus();
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

// ---- Batch ---------------------------------------------------------------------------------------------------------

struct Batch::Slices {
  grpc::ByteBuffer message;
  std::vector<grpc::Slice> slices;
};

Batch::Batch() = default;
Batch::~Batch() = default;
Batch::Batch(Batch&&) noexcept = default;
Batch& Batch::operator=(Batch&&) noexcept = default;

absl::Status Batch::Parse(std::unique_ptr<Slices> message, Batch& batch) {
  batch.first_index_ = 0;
  batch.stride_ = 0;
  batch.rows_ = 0;
  batch.length_ = 0;
  batch.dtype_ = v1::DTYPE_UNSPECIFIED;
  batch.token_bytes_ = 0;
  batch.fingerprint_.clear();
  batch.provenance_.clear();
  batch.mask_.clear();
  batch.pieces_.clear();
  batch.joined_.clear();
  batch.slices_ = std::move(message);
  if (!batch.slices_->message.Dump(&batch.slices_->slices).ok()) return Malformed("it cannot be read");

  // The fields of v1.Batch; the tokens are not read but located.
  std::size_t tokens_begin = 0;
  grpc::ProtoBufferReader reader(&batch.slices_->message);
  CodedInputStream in(&reader);
  for (std::uint32_t tag = in.ReadTag(); tag != 0; tag = in.ReadTag()) {
    bool ok = true;
    std::uint64_t number = 0;
    std::uint32_t size = 0;
    switch (WireFormatLite::GetTagFieldNumber(tag)) {
      case v1::Batch::kFirstIndexFieldNumber:
        ok = in.ReadVarint64(&batch.first_index_);
        break;
      case v1::Batch::kStrideFieldNumber:
        ok = in.ReadVarint64(&batch.stride_);
        break;
      case v1::Batch::kRowsFieldNumber:
        ok = in.ReadVarint64(&number);
        batch.rows_ = static_cast<int>(number);
        break;
      case v1::Batch::kLengthFieldNumber:
        ok = in.ReadVarint64(&number);
        batch.length_ = static_cast<int>(number);
        break;
      case v1::Batch::kDtypeFieldNumber:
        ok = in.ReadVarint64(&number);
        batch.dtype_ = static_cast<v1::Dtype>(number);
        break;
      case v1::Batch::kFingerprintFieldNumber:
        ok = in.ReadVarint32(&size) && in.ReadString(&batch.fingerprint_, static_cast<int>(size));
        break;
      case v1::Batch::kProvenanceFieldNumber: {
        ok = in.ReadVarint32(&size);
        const CodedInputStream::Limit limit = in.PushLimit(static_cast<int>(size));
        ok = ok && batch.provenance_.emplace_back().ParseFromCodedStream(&in) && in.BytesUntilLimit() == 0;
        in.PopLimit(limit);
        break;
      }
      case v1::Batch::kMaskFieldNumber:
        ok = in.ReadVarint32(&size) && in.ReadString(&batch.mask_, static_cast<int>(size));
        break;
      case v1::Batch::kTokensFieldNumber:
        ok = in.ReadVarint32(&size);
        tokens_begin = static_cast<std::size_t>(in.CurrentPosition());
        batch.token_bytes_ = size;
        ok = ok && in.Skip(static_cast<int>(size));
        break;
      default:
        ok = WireFormatLite::SkipField(&in, tag);
    }
    if (!ok) return Malformed(absl::StrCat("field ", WireFormatLite::GetTagFieldNumber(tag), " is broken"));
  }
  const std::size_t tokens = static_cast<std::size_t>(batch.rows_) * static_cast<std::size_t>(batch.length_);
  const std::size_t expected = tokens * iterand::DtypeBytes(batch.dtype_);
  if (batch.token_bytes_ != expected) {
    return Malformed(
        absl::StrCat(batch.token_bytes_, " bytes of tokens for ", batch.rows_, " rows of ", batch.length_, " tokens"));
  }

  if (!batch.mask_.empty() && batch.mask_.size() != tokens) {
    return Malformed(
        absl::StrCat(batch.mask_.size(), " bytes of mask for ", batch.rows_, " rows of ", batch.length_, " tokens"));
  }

  std::size_t position = 0;  // in the message, of the slice's begin
  const std::size_t tokens_end = tokens_begin + batch.token_bytes_;
  for (const grpc::Slice& slice : batch.slices_->slices) {
    const std::size_t begin = std::max(position, tokens_begin);
    const std::size_t end = std::min(position + slice.size(), tokens_end);
    if (begin < end) {
      batch.pieces_.emplace_back(reinterpret_cast<const std::byte*>(slice.begin()) + (begin - position), end - begin);
    }
    position += slice.size();
  }
  return absl::OkStatus();
}

std::span<const std::byte> Batch::tokens() const {
  if (pieces_.size() <= 1) return pieces_.empty() ? std::span<const std::byte>() : pieces_.front();
  if (joined_.empty()) {
    joined_.resize(token_bytes_);
    CopyTo(joined_.data());
  }
  return joined_;
}

void Batch::CopyTo(void* out) const {
  auto* to = static_cast<std::byte*>(out);
  for (const std::span<const std::byte> piece : pieces_) {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
}

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
    auto message = std::make_unique<Batch::Slices>();
    if (!Read(message->message)) {
      if (!status.ok()) return ToAbsl(status);
      return false;
    }
    if (absl::Status parsed = Batch::Parse(std::move(message), batch); !parsed.ok()) return parsed;
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
  if (options.tls || !options.tls_root_file.empty()) {
    grpc::SslCredentialsOptions ssl;
    if (!options.tls_root_file.empty()) {
      errno = 0;
      std::ifstream file(options.tls_root_file, std::ios::binary);
      std::ostringstream text;
      if (!file || !(text << file.rdbuf())) {
        return absl::NotFoundError(absl::StrCat("cannot read the TLS roots ", options.tls_root_file, ": ",
                                                errno != 0 ? std::strerror(errno) : "it is empty"));
      }
      ssl.pem_root_certs = text.str();
    }
    credentials = grpc::SslCredentials(ssl);
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
    const bool tls = options.tls || !options.tls_root_file.empty();
    return absl::UnavailableError(
        absl::StrCat("no iterand server answers at ", address, " within ",
                     static_cast<double>(options.connect_timeout.count()) / 1000, " s",
                     tls ? " (or it does not use TLS, or its certificate is not trusted or names another host)" : ""));
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
  auto message = std::make_unique<Batch::Slices>();
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  grpc::Status status;
  impl_->generic.UnaryCall(&context, kReadMethod, grpc::StubOptions(), &bytes, &message->message,
                           [&](grpc::Status end) {
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
  if (absl::Status parsed = Batch::Parse(std::move(message), batch); !parsed.ok()) return parsed;
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
