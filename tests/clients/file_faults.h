// Stand-ins for the C library's calls that change files: they fail, count, or kill the process where a test asks.
#pragma once

#include <functional>

namespace iterand::testing {

struct FileFaults {
  std::function<void()> before_lock;  // called once, before the next lock
  int lock_error = 0;                 // of every lock, unless 0
  int exchange_error = 0;             // of every renameat2, unless 0

  // Calls that change a file or a folder, or make changes safe, so far.
  int changes = 0;
  // Instead of the change of this number, the process is killed by SIGKILL; 0: never.
  int kill_at = 0;
  // The write that is killed has written the half of its bytes.
  bool torn = false;
  // The machine loses power instead: what was written to a file after it was last made safe is cut off.
  bool lose_unsafe = false;
};

FileFaults& file_faults();

}  // namespace iterand::testing
