// Requests and responses as bytes.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "server/wire_limits.h"

namespace iterand {

// Parses a request. Errors, with the reason INVALID_REQUEST: InvalidArgument if it is not one, or has more than
// kMaxRequestFields fields.
template <typename Message>
absl::StatusOr<Message> ParseRequest(const grpc::ByteBuffer& bytes) {
  {
    grpc::ByteBuffer copy(bytes);  // shares the slices; reading releases them
    grpc::ProtoBufferReader wire(&copy);
    if (absl::Status status = CheckWireLimits(wire, *Message::descriptor()); !status.ok()) {
      return WithReason(v1::INVALID_REQUEST, std::move(status));
    }
  }
  grpc::ByteBuffer copy(bytes);
  Message message;
  if (!grpc::SerializationTraits<Message>::Deserialize(&copy, &message).ok()) {
    return WithReason(v1::INVALID_REQUEST, absl::InvalidArgumentError(absl::StrCat(
                                               "the request is not an ", Message::descriptor()->full_name())));
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
