#include "common/read_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace iterand {

absl::StatusOr<std::string> ReadFile(const std::string& path, std::size_t most) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(most + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (!file.is_open() || file.bad()) {
    return absl::NotFoundError(absl::StrCat(path.empty() ? "''" : path, ": cannot be read (",
                                            errno != 0 ? std::strerror(errno) : "unknown reason", ")"));
  }
  if (text.size() > most) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is too large, may have at most ", most, " bytes"));
  }
  return text;
}

std::string SecretFileWarning(const std::string& path) {
  struct stat file {};
  if (stat(path.c_str(), &file) != 0 || !S_ISREG(file.st_mode) || (file.st_mode & S_IROTH) == 0) return "";
  return absl::StrFormat("every user of this machine may read the secret in %s (mode %04o): chmod o-r ends that", path,
                         file.st_mode & 07777);
}

}  // namespace iterand
