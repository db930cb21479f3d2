// Ends the program with a clear message on processors that it cannot run on, instead of an illegal instruction.
//
// Everything else is compiled for x86-64-v3 and may use its instructions anywhere, even in the initialisers of global
// variables. So this file alone is compiled for plain x86-64 (CMakeLists.txt), and runs before all initialisers.

#if defined(__x86_64__)

#include <unistd.h>

namespace {

constexpr char kMessage[] =
    "iterand: this processor lacks AVX2 or FMA; x86-64 processors need both (level x86-64-v3: Intel Haswell of 2013, "
    "AMD Zen of 2017, or later)\n";

__attribute__((constructor(101))) void RefuseOldProcessors() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(1);
}

}  // namespace

#endif
