// Fingerprints as users write them.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace iterand {

// The 32 bytes of a fingerprint of 64 hexadecimal digits, in either case. Errors: InvalidArgument for another text.
absl::StatusOr<std::string> ParseFingerprint(const std::string& text);

}  // namespace iterand
