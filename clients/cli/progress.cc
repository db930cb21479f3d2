#include "clients/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/terminal.h"

namespace iterand::cli {
namespace {

constexpr std::chrono::milliseconds kInterval(100);

std::string Rate(double tokens_per_second) {
  if (tokens_per_second >= 1e6) return absl::StrFormat("%.1f M tokens/s", tokens_per_second / 1e6);
  return absl::StrFormat("%.0f k tokens/s", tokens_per_second / 1e3);
}

std::string Remaining(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole >= 3600) return absl::StrFormat("%d h %02d min left", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return absl::StrFormat("%d min %02d s left", whole / 60, whole % 60);
  return absl::StrFormat("%d s left", whole);
}

}  // namespace

Progress::Progress(std::uint64_t done, std::uint64_t total, int length)
    : shown_(isatty(STDERR_FILENO) == 1), first_(done), total_(total), length_(length) {}

Progress::~Progress() { Clear(); }

void Progress::Clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

void Progress::Restart(std::uint64_t done) {
  first_ = done;
  started_ = Clock::now();
  next_ = started_ + kInterval;
}

void Progress::Update(std::uint64_t done) {
  const Clock::time_point now = Clock::now();
  if (!shown_ || now < next_) return;
  next_ = now + kInterval;
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const double sequences_per_second = seconds > 0 ? static_cast<double>(done - first_) / seconds : 0;
  const double share = static_cast<double>(done) / static_cast<double>(total_);
  std::string words = absl::StrFormat(" %5.1f %%  %d of %d sequences  %s", 100 * share, done, total_,
                                      Rate(sequences_per_second * length_));
  if (sequences_per_second > 0) {
    absl::StrAppend(&words, "  ", Remaining(static_cast<double>(total_ - done) / sequences_per_second));
  }
  const int columns = std::clamp(TerminalColumns(STDERR_FILENO) - static_cast<int>(words.size()) - 3, 0, 40);
  const int filled = static_cast<int>(share * columns);
  std::string line = "\r";
  if (columns >= 5) {
    absl::StrAppend(&line, "[", std::string(filled, '='), std::string(columns - filled, ' '), "]");
  }
  absl::StrAppend(&line, words, "\033[K");
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace iterand::cli
