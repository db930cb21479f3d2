// Reasons of the errors of generation.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "common/rpc/error_info.h"

namespace iterand {

// Adds the reason to an error of Stream::GenerateSegment or Stream::Explain, by its code.
inline absl::Status WithGenerationReason(absl::Status status) {
  switch (status.code()) {
    case absl::StatusCode::kFailedPrecondition:
      return WithReason(v1::STARVED, std::move(status));
    case absl::StatusCode::kOutOfRange:
      return WithReason(v1::REPLAY_TOO_LONG, std::move(status));
    case absl::StatusCode::kCancelled:
      return WithReason(v1::CALL_CANCELLED, std::move(status));
    default:
      return status;
  }
}

}  // namespace iterand
