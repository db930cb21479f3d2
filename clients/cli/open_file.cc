#include "clients/cli/open_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace iterand::cli {

absl::Status FileError(const std::string& path, int error) {
  return absl::InternalError(absl::StrCat(path, ": ", std::strerror(error)));
}

absl::StatusOr<bool> Exists(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_type type = std::filesystem::symlink_status(path, error).type();
  if (type == std::filesystem::file_type::not_found) return false;
  if (error) return absl::InternalError(absl::StrCat(path, ": ", error.message()));
  return true;
}

absl::Status RenameToFreeName(const std::string& from, const std::string& to) {
  int error = renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0 ? 0 : errno;
  if (error == EINVAL || error == ENOSYS) {  // a file system that cannot do it in one step, such as NFS
    const absl::StatusOr<bool> taken = Exists(to);
    if (!taken.ok()) return taken.status();
    error = *taken ? EEXIST : std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
  }
  if (error == 0) return absl::OkStatus();
  if (error != EEXIST) return FileError(to, error);
  return absl::AlreadyExistsError(absl::StrCat(to, " is in the way: it came while the dump was made; move it away"));
}

absl::StatusOr<std::unique_ptr<OpenFile>> OpenFile::Open(const std::string& path, int flags) {
  const int file = open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (file < 0) return FileError(path, errno);
  return std::unique_ptr<OpenFile>(new OpenFile(path, file));
}

absl::StatusOr<std::unique_ptr<OpenFile>> OpenFile::OpenLocked(const std::string& path) {
  for (;;) {
    absl::StatusOr<std::unique_ptr<OpenFile>> opened = Open(path, O_RDWR | O_CREAT);
    if (!opened.ok()) return opened.status();
    struct stat ours {};
    if (fstat((*opened)->file_, &ours) != 0) return FileError(path, errno);
    if (flock((*opened)->file_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      if (error == EINTR) continue;
      if (error == EWOULDBLOCK) {
        return absl::UnavailableError(absl::StrCat(path, ": another process is writing this dump"));
      }
      if (ours.st_size == 0) unlink(path.c_str());
      return absl::InternalError(absl::StrCat(path, ": cannot be locked against a second process (",
                                              std::strerror(error),
                                              "); choose an --out whose file system has locks (flock)"));
    }
    // Between opening and locking, the process that held the lock may have renamed or removed the file.
    struct stat named {};
    if (stat(path.c_str(), &named) == 0 && named.st_dev == ours.st_dev && named.st_ino == ours.st_ino) return opened;
  }
}

OpenFile::OpenFile(std::string path, int file) : path_(std::move(path)), file_(file) {}

OpenFile::~OpenFile() { close(file_); }

absl::StatusOr<std::uint64_t> OpenFile::Size() const {
  struct stat found {};
  if (fstat(file_, &found) != 0) return FileError(path_, errno);
  return static_cast<std::uint64_t>(found.st_size);
}

absl::StatusOr<std::size_t> OpenFile::Read(std::span<std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = read(file_, bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path_, errno);
    if (got == 0) break;
    done += got;
  }
  return done;
}

absl::Status OpenFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = write(file_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return FileError(path_, errno);
    bytes = bytes.subspan(put);
  }
  return absl::OkStatus();
}

absl::Status OpenFile::Write(std::string_view text) { return Write(std::as_bytes(std::span(text))); }

absl::StatusOr<bool> OpenFile::StartsWith(std::string_view text) const {
  std::string start(text.size(), '\0');
  std::size_t done = 0;
  while (done < start.size()) {
    const ssize_t got = pread(file_, start.data() + done, start.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path_, errno);
    if (got == 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return start == text;
}

absl::Status OpenFile::WriteAtStart(std::string_view text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t put = pwrite(file_, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return FileError(path_, errno);
    done += static_cast<std::size_t>(put);
  }
  return absl::OkStatus();
}

absl::Status OpenFile::Sync() {
  if (fdatasync(file_) != 0) return FileError(path_, errno);
  return absl::OkStatus();
}

absl::Status OpenFile::CutTo(std::uint64_t size) {
  if (ftruncate(file_, static_cast<off_t>(size)) != 0) return FileError(path_, errno);
  if (lseek(file_, 0, SEEK_END) < 0) return FileError(path_, errno);
  return absl::OkStatus();
}

}  // namespace iterand::cli
