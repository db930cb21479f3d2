#include "common/fingerprint_text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/printable.h"

namespace iterand {

absl::StatusOr<std::string> ParseFingerprint(const std::string& text) {
  constexpr std::size_t kDigits = 64;
  const bool digits =
      std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); });
  if (text.size() != kDigits || !digits) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected_fingerprint: is \"", Printable(text), "\", must be 64 hexadecimal digits"));
  }
  return absl::HexStringToBytes(text);
}

}  // namespace iterand
