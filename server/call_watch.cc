#include "server/call_watch.h"

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/interceptor.h>

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "server/service.h"

namespace iterand {
namespace {

using Hook = grpc::experimental::InterceptionHookPoints;

constexpr char kService[] = "/iterand.v1.NoiseService/";
constexpr char kExecute[] = "/iterand.v1.NoiseService/Execute";
constexpr std::uint64_t kHeaderBytes = 8192;  // that a call may have; gRPC bounds them

}  // namespace

class CallWatch::Interceptor final : public grpc::experimental::Interceptor {
 public:
  Interceptor(CallWatch* watch, grpc::experimental::ServerRpcInfo* info) : watch_(watch), info_(info) {}
  // The bytes of a request that was cut off count, too.
  ~Interceptor() override { Arrived(awaited_); }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    // The peer is not known before this.
    if (methods->QueryInterceptionHookPoint(Hook::POST_RECV_INITIAL_METADATA)) Begin();
    if (totals_ != nullptr) {
      if (methods->QueryInterceptionHookPoint(Hook::POST_RECV_MESSAGE) && authorized_) {
        // The service takes its requests as bytes.
        const auto* request = static_cast<const grpc::ByteBuffer*>(methods->GetRecvMessage());
        Arrived(request != nullptr && request->Valid() ? request->Length() : awaited_);
      }
      if (methods->QueryInterceptionHookPoint(Hook::PRE_SEND_STATUS) &&
          methods->GetSendStatus().error_code() == grpc::StatusCode::UNAUTHENTICATED) {
        ++totals_->unauthenticated;
      }
    }
    methods->Proceed();
  }

 private:
  void Begin() {
    const grpc::ServerContextBase& context = *info_->server_context();
    totals_ = watch_->Find(context.peer());
    authorized_ = absl::StartsWith(info_->method(), kService) && watch_->authorized_(context);
    if (totals_ == nullptr || !authorized_) return;
    totals_->accounted_bytes += kHeaderBytes;
    awaited_ = std::strcmp(info_->method(), kExecute) == 0 ? kMaxRequestBytes : kMaxStreamRequest;
    totals_->awaited_bytes += awaited_;
  }

  // The order matters: a reader that reads the two in the opposite order misses nothing.
  void Arrived(std::uint64_t bytes) {
    if (totals_ == nullptr) return;
    totals_->accounted_bytes += bytes;
    totals_->awaited_bytes -= awaited_;
    awaited_ = 0;
  }

  CallWatch* const watch_;
  grpc::experimental::ServerRpcInfo* const info_;
  std::shared_ptr<CallTotals> totals_;
  bool authorized_ = false;
  std::uint64_t awaited_ = 0;  // bytes that the request may have, until it has arrived
};

class CallWatch::Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(CallWatch* watch) : watch_(watch) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    return new Interceptor(watch_, info);
  }

 private:
  CallWatch* const watch_;
};

std::shared_ptr<CallTotals> CallWatch::Add(const std::string& peer) {
  auto totals = std::make_shared<CallTotals>();
  std::lock_guard lock(mutex_);
  totals_[peer] = totals;
  return totals;
}

void CallWatch::Remove(const std::string& peer) {
  std::lock_guard lock(mutex_);
  totals_.erase(peer);
}

std::shared_ptr<CallTotals> CallWatch::Find(const std::string& peer) {
  std::lock_guard lock(mutex_);
  const auto found = totals_.find(peer);
  return found == totals_.end() ? nullptr : found->second;
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> CallWatch::NewFactory() {
  return std::make_unique<Factory>(this);
}

}  // namespace iterand
