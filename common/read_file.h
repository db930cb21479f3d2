// Reads files that users name.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace iterand {

// The content of a file of at most `most` bytes. An empty file is empty content: a caller that needs some checks that.
// No more is read, so that a device or a wrong file does not fill the memory. Errors, with the path: NotFound if the
// file cannot be read, InvalidArgument if it is larger.
absl::StatusOr<std::string> ReadFile(const std::string& path, std::size_t most);

// A warning if every user of the machine may read `path`, a file with a secret; else empty. Group access is not
// reported: that is how a service is given a key that its administrator owns.
std::string SecretFileWarning(const std::string& path);

}  // namespace iterand
