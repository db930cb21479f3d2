// Reads files that users name.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace iterand {

// The content of a file of 1 to `most` bytes. No more is read, so that a device or a wrong file does not fill the
// memory. Errors, with the path: NotFound if it cannot be read or is empty, InvalidArgument if it is larger.
absl::StatusOr<std::string> ReadFile(const std::string& path, std::size_t most);

}  // namespace iterand
