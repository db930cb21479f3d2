// Counts what operator new hands out, so that tests can tell that the steady state allocates nothing.
#pragma once

#include <cstdint>

namespace iterand {

// Calls of operator new by this thread so far. Stays 0 under AddressSanitizer, whose operator new is not replaced.
std::uint64_t Allocations();

// Bytes that they asked for, freed ones too; likewise.
std::uint64_t AllocatedBytes();

}  // namespace iterand
