// The core time of a thread.
#pragma once

#include <ctime>

namespace iterand {

// Seconds of core time that the calling thread has used. Load from other threads and processes does not count.
inline double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace iterand
