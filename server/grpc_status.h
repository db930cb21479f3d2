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

// Parses the request of a raw method. InvalidArgument if it is not one.
template <typename Message>
absl::StatusOr<Message> ParseRequest(const grpc::ByteBuffer& bytes) {
  Message message;
  grpc::ByteBuffer copy(bytes);  // shares the slices; parsing releases them
  const grpc::Status status = grpc::SerializationTraits<Message>::Deserialize(&copy, &message);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("the request is no ", Message::descriptor()->full_name()));
  }
  return message;
}

}  // namespace iterand
