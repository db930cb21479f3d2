#include "common/read_file.h"

#include <sys/stat.h>

#include <algorithm>
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
  // Piece by piece, since most files are far smaller than `most`.
  constexpr std::size_t kPiece = std::size_t{64} << 10;
  std::string text;
  while (file && text.size() <= most) {
    const std::size_t done = text.size();
    text.resize(std::min(done + kPiece, most + 1));
    file.read(text.data() + done, static_cast<std::streamsize>(text.size() - done));
    text.resize(done + static_cast<std::size_t>(file.gcount()));
  }
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
