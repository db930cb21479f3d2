#include "tests/clients/file_faults.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <map>
#include <utility>

namespace iterand::testing {

FileFaults& file_faults() {
  static FileFaults faults;
  return faults;
}

namespace {

// Sizes of regular files when they were last made safe, by descriptor, for those that have changed since.
std::map<int, off_t>& UnsafeFrom() {
  static std::map<int, off_t> sizes;
  return sizes;
}

bool IsWatched(int file) {
  struct stat found {};
  return file_faults().kill_at > 0 && fstat(file, &found) == 0 && S_ISREG(found.st_mode);
}

void NoteUnsafe(int file) {
  struct stat found {};
  if (fstat(file, &found) == 0) UnsafeFrom().try_emplace(file, found.st_size);
}

// Counts a change; true for the one at which to die.
bool IsLast() { return ++file_faults().changes == file_faults().kill_at; }

void Die() {
  if (file_faults().lose_unsafe) {
    for (const auto& [file, size] : UnsafeFrom()) {
      struct stat found {};
      if (fstat(file, &found) == 0 && found.st_size > size) syscall(SYS_ftruncate, file, size);
    }
  }
  raise(SIGKILL);
}

void Count() {
  if (IsLast()) Die();
}

}  // namespace
}  // namespace iterand::testing

using iterand::testing::file_faults;

// These replace the C library's functions. The first has another name in C++, where `flock` is also a struct.
extern "C" int LockFile(int file, int operation) noexcept __asm__("flock");
extern "C" int LockFile(int file, int operation) noexcept {
  if (const std::function<void()> step = std::exchange(file_faults().before_lock, nullptr)) step();
  errno = file_faults().lock_error;
  return errno == 0 ? static_cast<int>(syscall(SYS_flock, file, operation)) : -1;
}

extern "C" int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) noexcept {
  iterand::testing::Count();
  errno = file_faults().exchange_error;
  return errno == 0 ? static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags)) : -1;
}

extern "C" ssize_t write(int file, const void* bytes, std::size_t size) {
  if (iterand::testing::IsWatched(file)) {
    if (iterand::testing::IsLast()) {
      if (file_faults().torn) syscall(SYS_write, file, bytes, size / 2);
      iterand::testing::Die();
    }
    iterand::testing::NoteUnsafe(file);
  }
  return syscall(SYS_write, file, bytes, size);
}

extern "C" ssize_t pwrite(int file, const void* bytes, std::size_t size, off_t offset) {
  if (iterand::testing::IsWatched(file) && iterand::testing::IsLast()) {
    if (file_faults().torn) syscall(SYS_pwrite64, file, bytes, size / 2, offset);
    iterand::testing::Die();
  }
  return syscall(SYS_pwrite64, file, bytes, size, offset);
}

extern "C" int ftruncate(int file, off_t size) noexcept {
  if (iterand::testing::IsWatched(file)) iterand::testing::Count();
  return static_cast<int>(syscall(SYS_ftruncate, file, size));
}

extern "C" int unlink(const char* path) noexcept {
  iterand::testing::Count();
  return static_cast<int>(syscall(SYS_unlink, path));
}

// Only the death of a process has to be survived, so the disk is left alone.
extern "C" int fdatasync(int file) {
  iterand::testing::Count();
  iterand::testing::UnsafeFrom().erase(file);
  return 0;
}
