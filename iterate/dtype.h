// The element type of a stream's tokens.
#pragma once

#include <cstdint>

#include "iterand/types.h"

namespace iterand {

// The smallest type for tokens below `vocab_size`, at most 2^32.
constexpr Dtype SmallestDtype(std::int64_t vocab_size) {
  if (vocab_size <= 256) return Dtype::kUint8;
  return vocab_size <= 65536 ? Dtype::kUint16 : Dtype::kUint32;
}

}  // namespace iterand
