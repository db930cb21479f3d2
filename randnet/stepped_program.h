// Programs that execute instructions, one after another, within a limit.
#pragma once

#include <cstdint>

#include "randnet/program.h"

namespace iterand {

class SteppedProgram : public Program {
 public:
  // Instructions executed by the last Run, all rows together; benchmarks divide by it.
  std::uint64_t steps() const { return steps_; }
  // Symbols that it wrote, before they were repeated to fill the rows.
  std::uint64_t written() const { return written_; }

 protected:
  std::uint64_t steps_ = 0;
  std::uint64_t written_ = 0;
};

}  // namespace iterand
