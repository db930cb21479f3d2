#include "clients/cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace iterand::cli {
namespace {

constexpr char kBrokenPipe[] = "the reader of standard output is gone";

absl::Status OutputError(int error) {
  if (error == EPIPE) return absl::AbortedError(kBrokenPipe);
  return absl::InternalError(absl::StrCat("standard output: ", std::strerror(error)));
}

}  // namespace

absl::Status WriteOutput(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) return OutputError(errno);
  return absl::OkStatus();
}

absl::Status WriteOutput(std::span<const std::byte> bytes) {
  return WriteOutput(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

absl::Status FlushOutput() {
  if (std::fflush(stdout) != 0) return OutputError(errno);
  return absl::OkStatus();
}

bool IsBrokenPipe(const absl::Status& status) { return absl::IsAborted(status) && status.message() == kBrokenPipe; }

}  // namespace iterand::cli
