// Programs of the tape machine (randnet/machines/tape_machine.h) as they are run: instructions in groups, and the step
// that executes one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "randnet/block.h"

namespace iterand::tape {

// Several instructions in one: moves, then additions, then at most one of . , [ ]. What is written, read or tested
// comes last. A run that its step limit stops within the group therefore has no part of the group that could be seen.
struct Group {
  std::uint32_t next[2];  // the group that follows when the cell is 0, when it is not
  std::uint32_t steps;    // instructions in it
  std::uint16_t move;     // modulo cells
  std::uint16_t add;      // modulo symbols
  std::uint8_t writes;
  std::uint8_t reads;
};

// Groups of a well-formed text. The last group is followed by group `code.size()`, or by 0 with repeat. `open` is
// scratch.
void Compile(std::string_view text, int cells, int symbols, bool repeat, std::vector<Group>& code,
             std::vector<std::uint32_t>& open);

// What is the same for all rows of a program.
struct Machine {
  const Group* code;
  std::uint32_t end;  // the place after the last group
  std::uint32_t cells;
  std::uint32_t symbols;
  std::uint32_t reciprocal;  // 2^32 / symbols, rounded up

  Machine(const std::vector<Group>& groups, int cell_count, int symbol_count)
      : code(groups.data()),
        end(static_cast<std::uint32_t>(groups.size())),
        cells(static_cast<std::uint32_t>(cell_count)),
        symbols(static_cast<std::uint32_t>(symbol_count)),
        reciprocal(~std::uint32_t{0} / symbols + 1) {}
};

// One running row.
struct Lane {
  Symbol* tape;
  const Symbol* input;
  Symbol* output;
  std::size_t input_length;
  std::size_t capacity;  // of the output, at least 1
  std::size_t read;
  std::size_t written;
  std::int64_t left;  // steps
  std::uint32_t place;
  std::uint32_t pointer;
  int row;

  void Start(const Machine& machine, std::int64_t steps) {
    std::fill_n(tape, machine.cells, Symbol{0});
    read = 0;
    written = 0;
    left = steps;
    place = 0;
    pointer = 0;
  }
};

// Executes one group; false when the row is over, with left < 0 if its steps ran out. Without branches on what the
// program does.
inline bool Step(const Machine& machine, Lane& lane) {
  const Group& group = machine.code[lane.place];
  lane.left -= group.steps;
  if (lane.left < 0) return false;
  std::uint32_t pointer = lane.pointer + group.move;
  pointer -= pointer >= machine.cells ? machine.cells : 0;
  std::uint32_t value = lane.tape[pointer] + std::uint32_t{group.add};
  value -= value >= machine.symbols ? machine.symbols : 0;
  // x mod symbols for 16-bit x (Lemire, Kaser and Kurz 2019, "Faster remainder by direct computation").
  const std::uint32_t fraction = machine.reciprocal * lane.input[lane.read];
  const auto given = static_cast<std::uint32_t>(static_cast<std::uint64_t>(fraction) * machine.symbols >> 32);
  value = group.reads != 0 ? given : value;
  const std::size_t read = lane.read + group.reads;
  lane.read = read == lane.input_length ? 0 : read;
  lane.tape[pointer] = static_cast<Symbol>(value);
  lane.output[lane.written] = static_cast<Symbol>(value);
  lane.written += group.writes;
  lane.pointer = pointer;
  lane.place = group.next[value != 0 ? 1 : 0];
  return (lane.written != lane.capacity) & (lane.place != machine.end);
}

}  // namespace iterand::tape
