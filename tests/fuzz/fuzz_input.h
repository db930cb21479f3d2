// Takes values from the bytes of a fuzzer, in order. After the end all bytes are 0.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace iterand {

class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::size_t left() const { return size_; }

  std::uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

  bool Flag() { return (Byte() & 1) != 0; }

  // Any 64 bits.
  std::uint64_t Bits() {
    std::uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits |= std::uint64_t{Byte()} << (8 * i);
    return bits;
  }

  // A whole number from low to high, from as few bytes as hold their distance.
  template <typename Number>
  Number Between(Number low, Number high) {
    const std::uint64_t distance = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
    std::uint64_t bits = 0;
    for (int shift = 0; shift < 64 && (distance >> shift) > 0; shift += 8) bits |= std::uint64_t{Byte()} << shift;
    if (distance < ~std::uint64_t{0}) bits %= distance + 1;
    return static_cast<Number>(static_cast<std::uint64_t>(low) + bits);
  }

  // A 64-bit number that is often small, or near a power of two or the largest.
  std::uint64_t Number() {
    const std::uint8_t kind = Byte();
    const std::uint64_t near = Byte();
    switch (kind % 5) {
      case 0:
        return near;
      case 1:
        return ~std::uint64_t{0} - near;
      case 2:
        return (std::uint64_t{1} << (Byte() % 64)) + near - 128;
      default:
        return Bits();
    }
  }

  // 0 to 1.
  double Share() { return static_cast<double>(Between<std::uint32_t>(0, ~std::uint32_t{0})) / 4294967295.0; }

  // At most this many bytes, up to a zero byte.
  std::string Text(std::size_t most) {
    std::string text;
    while (size_ > 0 && text.size() < most) {
      const auto byte = static_cast<char>(Byte());
      if (byte == '\0') break;
      text += byte;
    }
    return text;
  }

  std::string Rest() {
    std::string rest(reinterpret_cast<const char*>(data_), size_);
    size_ = 0;
    return rest;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

}  // namespace iterand
