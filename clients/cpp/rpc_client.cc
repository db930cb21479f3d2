#include "clients/cpp/rpc_client.h"

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

// malloc may keep twice as many bytes of freed memory.
constexpr std::size_t kKeptBytes = 16 << 20;

// gRPC receives into memory from malloc. By default glibc gives freed memory back to the system once 128 KiB are free
// at the end of the heap. A client that frees one batch per batch would spend most of its time on page faults. The
// limit rises to twice the size of the largest block that was mapped and freed, up to 64 MiB (mallopt(3),
// M_MMAP_THRESHOLD). That happens in any process that once had a large array. So this function maps a block and frees
// it, untouched. Limits that were set by hand stay.
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

// The only response of a method. Makes the call again if no server answers.
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
  return absl::DataLossError(absl::StrCat("the server sent something other than a ", message.GetTypeName()));
}

}  // namespace

RpcClient::RpcClient(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
RpcClient::~RpcClient() = default;

absl::StatusOr<std::unique_ptr<RpcClient>> RpcClient::Connect(const std::string& address,
                                                              const ClientOptions& options) {
  return ConnectToAny({address}, options);
}

absl::StatusOr<std::unique_ptr<RpcClient>> RpcClient::ConnectToAny(std::vector<std::string> addresses,
                                                                   const ClientOptions& options) {
  absl::StatusOr<std::shared_ptr<Connection>> connection = Connection::Make(std::move(addresses), options);
  if (!connection.ok()) return connection.status();
  KeepFreedMemory();
  if (absl::Status status = (*connection)->WaitForServer(); !status.ok()) return status;
  return std::unique_ptr<RpcClient>(new RpcClient(*std::move(connection)));
}

absl::StatusOr<Batch> RpcClient::Read(const v1::ReadRequest& request, Timeout timeout) {
  absl::StatusOr<grpc::ByteBuffer> message = Unary(*connection_, kReadMethod, Serialize(request), timeout);
  if (!message.ok()) return message.status();
  Batch batch;
  if (absl::Status parsed = batch.Parse(*message); !parsed.ok()) return parsed;
  return batch;
}

absl::StatusOr<v1::DescribeResponse> RpcClient::Describe(const v1::DescribeRequest& request, Timeout timeout) {
  absl::StatusOr<grpc::ByteBuffer> message = Unary(*connection_, kDescribeMethod, Serialize(request), timeout);
  if (!message.ok()) return message.status();
  v1::DescribeResponse response;
  if (absl::Status parsed = Deserialize(*message, response); !parsed.ok()) return parsed;
  return response;
}

absl::Status RpcClient::Execute(const v1::ExecuteRequest& request,
                                absl::FunctionRef<bool(const v1::ExecuteResult&)> sink, Timeout timeout) {
  if (absl::Status status = CheckTimeout(timeout); !status.ok()) return status;
  Attempts attempts(*connection_, timeout);
  v1::ExecuteRequest rest = request;
  int first = 0;  // number in `request` of the first program in `rest`
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
        if (!sink(result)) return absl::CancelledError("the caller cancelled the call");
      }
    }
    if (call.status().ok()) return absl::OkStatus();
    if (call.status().code() == absl::StatusCode::kUnavailable && done > first) {
      // Request again those programs whose results have not come.
      rest.mutable_programs()->DeleteSubrange(0, done - first);
      first = done;
      if (rest.programs().empty()) return absl::OkStatus();  // the connection broke after the last result
    }
    if (absl::Status end = attempts.Failed(call, call.status(), Sleep); !end.ok()) return end;
  }
}

}  // namespace iterand
