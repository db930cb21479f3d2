#include "common/token_file.h"

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/read_file.h"

namespace iterand {
namespace {

constexpr std::size_t kMaxTokenFileBytes = std::size_t{64} << 10;

// A header of a call holds about 8 KiB.
constexpr std::size_t kMaxTokenBytes = 4096;

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadTokenFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxTokenFileBytes);
  if (!text.ok()) return absl::Status(text.status().code(), absl::StrCat("token file ", text.status().message()));
  std::vector<std::string> tokens;
  int line_number = 0;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    ++line_number;
    const absl::string_view token = absl::StripAsciiWhitespace(line);
    if (token.empty() || token.front() == '#') continue;
    const bool printable = std::all_of(token.begin(), token.end(),
                                       [](char c) { return absl::ascii_isprint(static_cast<unsigned char>(c)); });
    if (!printable || token.size() > kMaxTokenBytes) {
      return absl::InvalidArgumentError(absl::StrCat("token file ", path, ", line ", line_number,
                                                     ": a token must be printable ASCII of at most ", kMaxTokenBytes,
                                                     " characters"));
    }
    tokens.emplace_back(token);
  }
  if (tokens.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("token file ", path,
                     ": holds no token; one per line is needed, beside empty lines and lines that begin with #"));
  }
  return tokens;
}

}  // namespace iterand
