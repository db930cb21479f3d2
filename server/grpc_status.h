// Statuses and request messages between gRPC and the rest.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "iterate/json_limits.h"
#include "server/wire_limits.h"

namespace iterand {

// gRPC sends messages in a header of limited size.
inline constexpr std::size_t kMaxStatusMessage = 4096;

inline grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), Shorten(std::string(status.message()), kMaxStatusMessage)};
}

// Parses a request. Errors: InvalidArgument if it is not one, or has more than kMaxRequestFields fields.
template <typename Message>
absl::StatusOr<Message> ParseRequest(const grpc::ByteBuffer& bytes) {
  {
    grpc::ByteBuffer copy(bytes);  // shares the slices; reading releases them
    grpc::ProtoBufferReader wire(&copy);
    if (absl::Status status = CheckWireLimits(wire, *Message::descriptor()); !status.ok()) return status;
  }
  grpc::ByteBuffer copy(bytes);
  Message message;
  if (!grpc::SerializationTraits<Message>::Deserialize(&copy, &message).ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the request is no ", Message::descriptor()->full_name()));
  }
  return message;
}

// The response of a raw method.
template <typename Message>
grpc::ByteBuffer ToBuffer(const Message& message) {
  std::string bytes;
  message.SerializeToString(&bytes);
  const grpc::Slice slice(bytes);
  return {&slice, 1};
}

}  // namespace iterand
