// Errors of calls that their requests did not cause.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"

namespace iterand {

// For a call that meets a limit which all calls share.
inline absl::Status BusyError(const std::string& message) {
  return WithReason(v1::SERVER_BUSY, absl::UnavailableError(message));
}

// For a call that has not begun.
inline absl::Status StoppingError() {
  return WithReason(v1::SERVER_STOPPING, absl::UnavailableError("the server is stopping"));
}

// For a stream that can be resumed from an index.
inline absl::Status StreamStoppingError(std::uint64_t next_index) {
  const std::string index = absl::StrCat(next_index);
  return WithReason(v1::SERVER_STOPPING,
                    absl::UnavailableError(absl::StrCat("the server is stopping: resume from index ", index)),
                    {{"next_index", index}});
}

inline absl::Status CancelledByClientError() {
  return WithReason(v1::CALL_CANCELLED, absl::CancelledError("the client cancelled the call"));
}

}  // namespace iterand
