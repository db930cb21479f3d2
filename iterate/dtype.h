// The element type of served tokens.
#pragma once

#include <cstddef>
#include <cstdint>

namespace iterand {

// The value is the width in bytes. A stream has the smallest type that holds vocab_size values.
enum class Dtype : std::uint8_t { kUint8 = 1, kUint16 = 2, kUint32 = 4 };

// Bytes of one token.
constexpr std::size_t DtypeBytes(Dtype dtype) { return static_cast<std::size_t>(dtype); }

// The smallest type for tokens below `vocab_size`, at most 2^32.
constexpr Dtype SmallestDtype(std::int64_t vocab_size) {
  if (vocab_size <= 256) return Dtype::kUint8;
  return vocab_size <= 65536 ? Dtype::kUint16 : Dtype::kUint32;
}

}  // namespace iterand
