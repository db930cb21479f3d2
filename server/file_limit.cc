#include "server/file_limit.h"

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace iterand {
namespace {

int FilesOpen() {
  int count = 0;
  if (DIR* folder = opendir("/proc/self/fd"); folder != nullptr) {
    while (readdir(folder) != nullptr) ++count;
    closedir(folder);
  }
  return count;
}

}  // namespace

void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int ConnectionsThatFit(int wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return wanted;
  const auto files = static_cast<std::int64_t>(std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<int>::max()));
  const std::int64_t reserve = FilesOpen() + (files >= 512 ? 64 : 16);  // snapshots, metrics, certificates
  return static_cast<int>(std::clamp<std::int64_t>((files - reserve) / 2, 1, wanted));
}

}  // namespace iterand
