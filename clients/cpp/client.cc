#include "clients/cpp/client.h"

#include <grpcpp/grpcpp.h>

#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "clients/cpp/connection.h"
#include "clients/cpp/requests.h"
#include "iterand/v1/noise_service.grpc.pb.h"

namespace iterand {
namespace {

constexpr char kReadMethod[] = "/iterand.v1.NoiseService/Read";
constexpr char kDescribeMethod[] = "/iterand.v1.NoiseService/Describe";
constexpr char kExecuteMethod[] = "/iterand.v1.NoiseService/Execute";

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

void Sleep(std::chrono::milliseconds time) { std::this_thread::sleep_for(time); }

absl::Status CheckTimeout(Timeout timeout) {
  if (!timeout || *timeout > std::chrono::milliseconds(0)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the timeout is ", timeout->count(), " ms; it must be more than 0, or none"));
}

// The one response of a method, again where no server answers.
absl::StatusOr<grpc::ByteBuffer> Unary(Connection& connection, const char* method, const grpc::ByteBuffer& request,
                                       Timeout timeout) {
  if (absl::Status status = CheckTimeout(timeout); !status.ok()) return status;
  Attempts attempts(connection, timeout);
  for (;;) {
    ServerStream call(connection, method, request, attempts.deadline());
    grpc::ByteBuffer message;
    const bool found = call.Read(message);
    if (grpc::ByteBuffer more; found) call.Read(more);
    if (call.status().ok() && found) {
      attempts.Succeeded(*call.link());
      return message;
    }
    const absl::Status failure =
        call.status().ok() ? absl::InternalError("the server sent no response") : call.status();
    if (absl::Status end = attempts.Failed(call, failure, Sleep); !end.ok()) return end;
  }
}

template <typename Message>
absl::Status Deserialize(grpc::ByteBuffer& bytes, Message& message) {
  const grpc::Status status = grpc::SerializationTraits<Message>::Deserialize(&bytes, &message);
  if (status.ok()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the server sent something that is no ", message.GetTypeName()));
}

}  // namespace

Client::Client() = default;
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& address, const ClientOptions& options) {
  return ConnectToAny({address}, options);
}

absl::StatusOr<std::unique_ptr<Client>> Client::ConnectToAny(std::vector<std::string> addresses,
                                                             const ClientOptions& options) {
  absl::StatusOr<std::shared_ptr<Connection>> connection = Connection::Make(std::move(addresses), options);
  if (!connection.ok()) return connection.status();
  KeepFreedMemory();
  if (absl::Status status = (*connection)->WaitForServer(); !status.ok()) return status;
  std::unique_ptr<Client> client(new Client());
  client->connection_ = *std::move(connection);
  return client;
}

absl::StatusOr<std::unique_ptr<BatchReader>> Client::Stream(const v1::StreamRequest& request, int prefetch) {
  if (prefetch < 0) return absl::InvalidArgumentError(absl::StrCat("prefetch ", prefetch, ": 0 or more is wanted"));
  return BatchReader::Start(connection_, request, prefetch);
}

absl::StatusOr<Batch> Client::Read(const v1::ReadRequest& request, Timeout timeout) {
  absl::StatusOr<grpc::ByteBuffer> message = Unary(*connection_, kReadMethod, Serialize(request), timeout);
  if (!message.ok()) return message.status();
  Batch batch;
  if (absl::Status parsed = batch.Parse(*message); !parsed.ok()) return parsed;
  return batch;
}

absl::StatusOr<v1::DescribeResponse> Client::Describe(const v1::DescribeRequest& request, Timeout timeout) {
  absl::StatusOr<grpc::ByteBuffer> message = Unary(*connection_, kDescribeMethod, Serialize(request), timeout);
  if (!message.ok()) return message.status();
  v1::DescribeResponse response;
  if (absl::Status parsed = Deserialize(*message, response); !parsed.ok()) return parsed;
  return response;
}

absl::Status Client::Execute(const v1::ExecuteRequest& request, absl::FunctionRef<bool(const v1::ExecuteResult&)> sink,
                             Timeout timeout) {
  if (absl::Status status = CheckTimeout(timeout); !status.ok()) return status;
  Attempts attempts(*connection_, timeout);
  v1::ExecuteRequest rest = request;
  int first = 0;  // of the programs in `rest`, among those of `request`
  int done = 0;
  for (;;) {
    ServerStream call(*connection_, kExecuteMethod, Serialize(rest), attempts.deadline());
    for (grpc::ByteBuffer message; call.Read(message);) {
      v1::ExecuteResponse response;
      if (absl::Status parsed = Deserialize(message, response); !parsed.ok()) return parsed;
      attempts.Succeeded(*call.link());
      for (v1::ExecuteResult& result : *response.mutable_results()) {
        result.set_program(result.program() + first);
        done = static_cast<int>(result.program()) + 1;
        if (!sink(result)) return absl::CancelledError("the call was given up");
      }
    }
    if (call.status().ok()) return absl::OkStatus();
    if (call.status().code() == absl::StatusCode::kUnavailable && done > first) {
      // Programs whose results have not come are asked for again.
      rest.mutable_programs()->DeleteSubrange(0, done - first);
      first = done;
      if (rest.programs().empty()) return absl::OkStatus();  // the connection broke behind the last result
    }
    if (absl::Status end = attempts.Failed(call, call.status(), Sleep); !end.ok()) return end;
  }
}

}  // namespace iterand
