// Blocks and views: rows x length symbols, row-major.
//
// Inside the generator every symbol is a uint16_t: programs work on an alphabet of at most 65 536 symbols. The dtype a
// trainer sees (uint8, uint16 or uint32, by vocabulary) is made once, when a finished row is written out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace iterand {

using Symbol = std::uint16_t;

inline constexpr int kMaxAlphabet = 65536;

// A count, as memory is counted.
constexpr std::size_t Size(int count) { return static_cast<std::size_t>(count); }

// A view of rows x length values, rows `stride` elements apart. Holds no memory.
template <typename T>
class BasicBlockView {
 public:
  BasicBlockView() = default;
  BasicBlockView(T* data, int rows, int length, std::ptrdiff_t stride)
      : data_(data), rows_(rows), length_(length), stride_(stride) {}
  BasicBlockView(T* data, int rows, int length) : BasicBlockView(data, rows, length, length) {}
  // A mutable view reads as a const one.
  template <typename U>
    requires std::is_same_v<const U, T>
  BasicBlockView(BasicBlockView<U> other)  // NOLINT(google-explicit-constructor)
      : BasicBlockView(other.data(), other.rows(), other.length(), other.stride()) {}

  T* data() const { return data_; }
  int rows() const { return rows_; }
  int length() const { return length_; }
  std::ptrdiff_t stride() const { return stride_; }
  T* row(int r) const { return data_ + r * stride_; }
  std::span<T> row_span(int r) const { return {row(r), static_cast<std::size_t>(length_)}; }

 private:
  T* data_ = nullptr;
  int rows_ = 0;
  int length_ = 0;
  std::ptrdiff_t stride_ = 0;
};

using BlockView = BasicBlockView<const Symbol>;
using MutableBlockView = BasicBlockView<Symbol>;

// An owning block. Reshape keeps its memory where that is large enough, so a reused block allocates nothing.
class Block {
 public:
  void Reshape(int rows, int length) {
    rows_ = rows;
    length_ = length;
    data_.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(length));
  }
  int rows() const { return rows_; }
  int length() const { return length_; }
  Symbol* row(int r) { return data_.data() + static_cast<std::ptrdiff_t>(r) * length_; }
  const Symbol* row(int r) const { return data_.data() + static_cast<std::ptrdiff_t>(r) * length_; }
  BlockView view() const { return {data_.data(), rows_, length_}; }
  MutableBlockView mutable_view() { return {data_.data(), rows_, length_}; }

 private:
  std::vector<Symbol> data_;
  int rows_ = 0;
  int length_ = 0;
};

}  // namespace iterand
