// A byte machine with a circular tape, after Cowsik et al. 2026 (arXiv 2609.30063): random programs, variations of
// given programs, and an interpreter for the programs of others.
//
// Machine: a circular tape of `cells` cells, all 0 at the start, each a symbol 0 .. symbols - 1; a pointer, at first at
// cell 0; an input tape, read from its beginning, and again from there after its end (an empty one reads as 0).
//   + -   add 1 to the cell, subtract 1, modulo `symbols`
//   > <   move the pointer right, left, modulo `cells`
//   .     write the cell
//   ,     read the next symbol of the input tape, modulo `symbols`, into the cell
//   [     if the cell is 0, go to what follows the matching `]`
//   ]     if the cell is not 0, go back to what follows the matching `[`
// Every instruction executed is one step. A program ends after its last instruction; with `repeat` it then begins
// again, on the tape and at the place of the input tape where it was. It is stopped after a number of steps, and when
// its output is full.
//
// The family: a program's text is made as follows, and then repaired.
//   A parent is, with probability archive_share, a uniformly drawn one of `programs`, else fresh: `program_length`
//   independent instructions, each of the eight equally likely. With probability cross_probability the text is the
//   beginning of one parent and the end of another (each cut at a uniform place), else one parent. Then `mutations`
//   times: with probability 1/2 a random instruction is replaced, with 1/4 one is inserted at a random place, with 1/4
//   one is deleted. Repair: what follows the 4 096th instruction is cut off, a `]` that closes nothing is dropped,
//   loops still open are closed at the end, and a program without a `.` gets one there.
// It runs on each row for at most steps_per_token * length steps. What it has written is repeated to fill the row; a
// program that writes nothing makes rows that are all symbol 0. `symbols` is at most the alphabet's size. With
// `mask_padding` the loss mask, if the recipe has one, marks what was written and not its repetitions.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "randnet/family.h"

namespace iterand {

extern const FamilyEntry kTapeMachineEntry;

// ---- Running given programs. ----

struct TapeLimits {
  std::uint64_t max_steps = 65536;
  int cells = 64;     // 1 to 65 536
  int symbols = 256;  // 2 to 256
  bool repeat = false;
};

enum class TapeHalt {
  kEnded,        // after its last instruction
  kStepLimit,    // after max_steps steps
  kOutputLimit,  // the output is full
};

struct TapeResult {
  std::uint64_t steps = 0;  // instructions executed
  std::size_t written = 0;  // symbols of the output
  TapeHalt halt = TapeHalt::kEnded;
};

// A program that has been checked. Immutable and thread-safe.
class TapeProgram {
 public:
  static constexpr std::size_t kMaxText = 65536;

  // Spaces, tabs and line ends between instructions are allowed. Errors are InvalidArgument and name the position (from
  // 0, in bytes), the character there and what is wrong: an unknown instruction, a `]` that closes nothing, a `[` that
  // is never closed, a text longer than kMaxText.
  static absl::StatusOr<TapeProgram> Parse(std::string_view text);

  // The instructions alone.
  const std::string& text() const { return text_; }

  // Runs on an input tape and writes to `output`, which bounds what may be written. Within its limits every program
  // ends. Errors: InvalidArgument if a limit is out of range, naming it.
  absl::StatusOr<TapeResult> Run(std::span<const Symbol> input, const TapeLimits& limits,
                                 std::span<Symbol> output) const;

 private:
  explicit TapeProgram(std::string text) : text_(std::move(text)) {}

  std::string text_;
};

// A run in pieces, so that the caller can do other work between them.
class TapeRun {
 public:
  // Errors: InvalidArgument if a limit is out of range, naming it. `input` and `output` must outlive the run.
  static absl::StatusOr<TapeRun> Start(const TapeProgram& program, std::span<const Symbol> input,
                                       const TapeLimits& limits, std::span<Symbol> output);
  ~TapeRun();
  TapeRun(TapeRun&&) noexcept;
  TapeRun& operator=(TapeRun&&) noexcept;

  // Executes about `steps` more instructions and returns how many it was; a run that is over executes none.
  std::uint64_t Advance(std::uint64_t steps);

  bool over() const;
  TapeResult result() const;  // so far; `halt` has a meaning once the run is over

 private:
  struct State;
  explicit TapeRun(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace iterand
