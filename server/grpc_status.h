// Statuses and request messages between gRPC and the rest.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace iterand {

// gRPC sends messages in a header of limited size.
inline constexpr std::size_t kMaxStatusMessage = 4096;

inline grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message().substr(0, kMaxStatusMessage))};
}

// Parses the request of a raw method. InvalidArgument if it is not one, ResourceExhausted if it has over `most` bytes.
template <typename Message>
absl::StatusOr<Message> ParseRequest(const grpc::ByteBuffer& bytes, std::size_t most) {
  if (bytes.Length() > most) {
    return absl::ResourceExhaustedError(absl::StrCat("the request has ", bytes.Length(), " bytes; a ",
                                                     Message::descriptor()->name(), " may have at most ", most));
  }
  Message message;
  grpc::ByteBuffer copy(bytes);  // shares the slices; parsing releases them
  const grpc::Status status = grpc::SerializationTraits<Message>::Deserialize(&copy, &message);
  if (!status.ok()) {
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
