// Counts what operator new returns, so that tests can show that the steady state allocates nothing.
#pragma once

#include <cstdint>

namespace iterand {

// Whether anything is counted: gcc's sanitizers have an operator new of their own, which is not replaced.
bool CountsAllocations();

// Calls of operator new by this thread so far.
std::uint64_t Allocations();

// Bytes that these calls requested, freed ones too.
std::uint64_t AllocatedBytes();

}  // namespace iterand
