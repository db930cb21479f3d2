// The two ends of a bare gRPC stream, which show what the wire can do: its messages are ready-made and never read.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/process.h"
#include "iterand/v1/noise_service.grpc.pb.h"

namespace iterand {

// Sends ready-made messages in turn.
class BareStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit BareStream(std::vector<grpc::ByteBuffer> messages) : messages_(std::move(messages)) {
    StartWrite(&messages_[0]);
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      if (++next_ == messages_.size()) next_ = 0;
      StartWrite(&messages_[next_]);
    } else {
      Finish(grpc::Status::CANCELLED);
    }
  }
  void OnDone() override { delete this; }

 private:
  const std::vector<grpc::ByteBuffer> messages_;
  std::size_t next_ = 0;
};

// The request: `batch_size` per message, and as many messages as `count` rows make, at least one.
class BareService final : public v1::NoiseService::WithRawCallbackMethod_Stream<v1::NoiseService::Service> {
 public:
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Stream(grpc::CallbackServerContext*,
                                                     const grpc::ByteBuffer* bytes) override {
    v1::StreamRequest request;
    grpc::ByteBuffer copy(*bytes);
    static_cast<void>(grpc::SerializationTraits<v1::StreamRequest>::Deserialize(&copy, &request));
    // As large as the batch that the preset's server sends.
    v1::Batch batch;
    batch.set_rows(request.batch_size());
    batch.set_length(512);
    batch.set_dtype(v1::DTYPE_UINT8);
    batch.set_fingerprint(std::string(32, 'f'));
    batch.set_tokens(std::string(std::size_t{request.batch_size()} * 512, 't'));
    std::vector<grpc::ByteBuffer> messages(
        std::max<std::size_t>(1, request.count() / std::max<std::size_t>(1, request.batch_size())));
    for (grpc::ByteBuffer& message : messages) {
      const grpc::Slice slice(batch.SerializeAsString());
      message = grpc::ByteBuffer(&slice, 1);
    }
    return new BareStream(std::move(messages));
  }
};

inline int ServeBare() {
  BareService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  std::cout << "listening on 127.0.0.1:" << port << std::endl;
  server->Wait();
  return 0;
}

// A client that takes messages as they are and looks at none. It is a process of its own, since `Client` changes what
// malloc does in its process.
struct BareClient {
  std::string address;
  pid_t server = 0;
  int batch_size = 0;
  std::uint64_t sequences = 0;  // that the server has ready; 0: one message
  double seconds = 0;
};

inline int TakeBareBytes(const BareClient& how) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  grpc::GenericStub stub(grpc::CreateCustomChannel(how.address, grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, "/iterand.v1.NoiseService/Stream", &queue);
  void* tag;
  bool ok = false;
  const auto wait = [&] {
    if (!queue.Next(&tag, &ok) || !ok) ProcessError("the bare stream broke");
  };
  call->StartCall(nullptr);
  wait();
  v1::StreamRequest request;
  request.set_batch_size(static_cast<std::uint32_t>(how.batch_size));
  request.set_count(how.sequences);
  const grpc::Slice slice(request.SerializeAsString());
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  wait();
  grpc::ByteBuffer message;
  call->Read(&message, nullptr);
  wait();
  const CpuMeter cpu(how.server);
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  double bytes = 0;
  while (elapsed() < how.seconds) {
    call->Read(&message, nullptr);
    wait();
    bytes += static_cast<double>(message.Length());
  }
  std::cout << bytes / elapsed() << " " << bytes / cpu.Seconds() << std::endl;
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return 0;
}

}  // namespace iterand
