// Stand-ins for the C library's calls that change files: they fail, count, or kill the process where a test asks.
#pragma once

#include <functional>

namespace iterand::testing {

struct FileFaults {
  std::function<void()> before_lock;  // called once, before the next lock
  int lock_error = 0;                 // of every lock, unless 0
  int exchange_error = 0;             // of every renameat2, unless 0

  // Calls so far that change a file or a folder, or make changes safe.
  int changes = 0;
  // The change of this number does not happen: the process is killed by SIGKILL instead; 0: never.
  int kill_at = 0;
  // The write at which the process is killed has written half of its bytes.
  bool torn = false;
  // The machine loses power instead: what was written to a file after it was last made safe is cut off.
  bool lose_unsafe = false;
};

FileFaults& file_faults();

}  // namespace iterand::testing
