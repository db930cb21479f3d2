#include "clients/cpp/read_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace iterand {

absl::StatusOr<std::string> ReadFile(const std::string& path, std::size_t most) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(most + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (file.bad() || text.empty()) {
    return absl::NotFoundError(
        absl::StrCat(path, ": cannot be read (", errno != 0 ? std::strerror(errno) : "it is empty", ")"));
  }
  if (text.size() > most) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is too large, may have at most ", most, " bytes"));
  }
  return text;
}

}  // namespace iterand
