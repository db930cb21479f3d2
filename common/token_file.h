// Files with the tokens that calls carry.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace iterand {

// The tokens of a file, one per line. White space around a token, empty lines and lines that begin with # are ignored.
// A server accepts every token of its file, and a client sends the first one of its own. Errors: NotFound for a file
// that cannot be read or is empty. InvalidArgument for one without a token, over 64 KiB, or with a token that is not
// printable ASCII. The message names the line and never quotes it.
absl::StatusOr<std::vector<std::string>> ReadTokenFile(const std::string& path);

}  // namespace iterand
