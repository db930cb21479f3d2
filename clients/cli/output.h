// Standard output that reports when its reader is gone.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "absl/status/status.h"

namespace iterand::cli {

// Writes to standard output, buffered. Errors: Aborted, for which IsBrokenPipe holds, once the reader is gone; Internal
// with the system's words otherwise, such as for a full disk.
absl::Status WriteOutput(std::string_view text);
absl::Status WriteOutput(std::span<const std::byte> bytes);
absl::Status FlushOutput();

// The reader of standard output went away, as `head` does when it has seen enough: an end, not a failure.
bool IsBrokenPipe(const absl::Status& status);

}  // namespace iterand::cli
