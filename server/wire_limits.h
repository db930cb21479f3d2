// A limit on what a protobuf message in wire format would be parsed into, checked before it is parsed.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/zero_copy_stream.h>

#include "absl/status/status.h"

namespace iterand {

// Fields that a request may have, with those of its submessages and each element of a packed field. Two bytes on the
// wire may become a message of 100 bytes in memory, so a request's size alone does not bound what it takes.
inline constexpr int kMaxRequestFields = 65536;

// Checks that `wire` has at most kMaxRequestFields fields. One pass over the bytes, no memory. Errors: InvalidArgument
// if there are more, or if the bytes cannot be a message of this type.
absl::Status CheckWireLimits(google::protobuf::io::ZeroCopyInputStream& wire, const google::protobuf::Descriptor& type);

}  // namespace iterand
