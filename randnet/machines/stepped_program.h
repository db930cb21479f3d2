// Programs that execute instructions, one after another, within a limit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "randnet/base/repeat_to_fill.h"
#include "randnet/program.h"

namespace iterand {

class SteppedProgram : public Program {
 public:
  // With `mask_padding`, what a row repeats is not to be predicted.
  explicit SteppedProgram(bool mask_padding) : mask_padding_(mask_padding) {}

  // Instructions that the last Run took its rows through, all rows together.
  std::uint64_t steps() const { return steps_; }
  // How many of these were not executed, since rows had them in common with another that did.
  std::uint64_t shared_steps() const { return shared_steps_; }
  // Symbols that it wrote, before they were repeated to fill the rows.
  std::uint64_t written() const { return written_; }

  void MarkTargets(int r, std::span<const Symbol> /*row*/, std::span<std::uint8_t> mask) const override {
    const auto targets = mask_padding_ ? static_cast<std::ptrdiff_t>(row_written_[static_cast<std::size_t>(r)])
                                       : static_cast<std::ptrdiff_t>(mask.size());
    std::fill(mask.begin(), mask.begin() + targets, std::uint8_t{1});
    std::fill(mask.begin() + targets, mask.end(), std::uint8_t{0});
  }

 protected:
  // Begins a Run of this many rows; allocates nothing for no more than the `max_rows` of ReserveRows.
  void BeginRows(int rows) {
    steps_ = 0;
    shared_steps_ = 0;
    written_ = 0;
    row_written_.resize(static_cast<std::size_t>(rows));
  }
  void ReserveRows(int max_rows) { row_written_.reserve(static_cast<std::size_t>(max_rows)); }

  // Ends a row with this many symbols written: they are repeated to fill it.
  void FinishRow(int r, std::span<Symbol> row, std::size_t written) {
    written_ += written;
    row_written_[static_cast<std::size_t>(r)] = written;
    RepeatToFill(row, written);
  }

  std::uint64_t steps_ = 0;
  std::uint64_t shared_steps_ = 0;

 private:
  bool mask_padding_;
  std::uint64_t written_ = 0;
  std::vector<std::size_t> row_written_;  // of the last Run
};

}  // namespace iterand
