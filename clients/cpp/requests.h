// Requests as bytes. Internal to the client library.
#pragma once

#include <grpcpp/grpcpp.h>

namespace iterand {

template <typename Message>
grpc::ByteBuffer Serialize(const Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace iterand
