// Files that a dump writes. Reads and writes are complete, or end in an error that names the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace iterand::cli {

// Internal, with the file's name and the system's words for `error`, a value of errno.
absl::Status FileError(const std::string& path, int error);

// Whether anything has this name, even a link that leads nowhere. Errors: Internal if that cannot be known.
absl::StatusOr<bool> Exists(const std::string& path);

// Gives a file a name that nothing else has. Errors: AlreadyExists if something has it; Internal.
absl::Status RenameToFreeName(const std::string& from, const std::string& to);

class OpenFile {
 public:
  // `flags` as of open(2).
  static absl::StatusOr<std::unique_ptr<OpenFile>> Open(const std::string& path, int flags);
  // Creates the file if necessary and locks it until it is closed. No two processes hold the file of this name, even if
  // one of them renames or removes it. Errors: Unavailable if another process holds it; Internal for a file system
  // without locks.
  static absl::StatusOr<std::unique_ptr<OpenFile>> OpenLocked(const std::string& path);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const std::string& path() const { return path_; }
  absl::StatusOr<std::uint64_t> Size() const;
  // Reads up to bytes.size() bytes, fewer only at the file's end.
  absl::StatusOr<std::size_t> Read(std::span<std::byte> bytes);
  absl::Status Write(std::span<const std::byte> bytes);
  absl::Status Write(std::string_view text);
  // Whether the file begins with this text. Leaves the place for Read and Write as it is.
  absl::StatusOr<bool> StartsWith(std::string_view text) const;
  // Writes over the file's first bytes, and leaves the place for Read and Write as it is.
  absl::Status WriteAtStart(std::string_view text);
  absl::Status Sync();
  // Cuts the file to `size` bytes and goes to its end.
  absl::Status CutTo(std::uint64_t size);

 private:
  OpenFile(std::string path, int file);
  std::string path_;
  int file_;
};

}  // namespace iterand::cli
