// Converts statuses between absl and gRPC. The ErrorInfo of an error travels in the trailer `grpc-status-details-bin`,
// as proto/iterand/v1/errors.proto defines.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>

#include "absl/status/status.h"

namespace iterand {

// Bytes that the message and the details of a status may take in a header. gRPC allows 8 KiB for all headers.
inline constexpr std::size_t kMaxStatusHeader = 7000;

// A message that would take more than kMaxStatusHeader is shortened.
grpc::Status ToGrpc(const absl::Status& status);

// Message and ErrorInfo are made safe for terminals and logs (common/printable.h): the sender may be anyone.
absl::Status ToAbsl(const grpc::Status& status);

}  // namespace iterand
