// The tape machines of tape_machine and brainphoque, instruction by instruction: tests compare the real ones with
// these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "randnet/block.h"
#include "randnet/machines/tape_machine.h"

namespace iterand {

// A circular tape with a pointer, and an input tape that begins again after its end. An empty one reads as 0.
class PlainTape {
 public:
  PlainTape(std::size_t cells, std::uint32_t symbols, const std::vector<Symbol>& input)
      : tape_(cells), symbols_(symbols), input_(input) {}

  std::uint32_t cell() const { return tape_[pointer_]; }

  // Executes one of + - > < . and , where `.` appends to `output`; brackets are the caller's.
  void Execute(char instruction, std::vector<Symbol>& output) {
    std::uint32_t& cell = tape_[pointer_];
    switch (instruction) {
      case '+':
        cell = (cell + 1) % symbols_;
        break;
      case '-':
        cell = (cell + symbols_ - 1) % symbols_;
        break;
      case '>':
        pointer_ = (pointer_ + 1) % tape_.size();
        break;
      case '<':
        pointer_ = (pointer_ + tape_.size() - 1) % tape_.size();
        break;
      case '.':
        output.push_back(static_cast<Symbol>(cell));
        break;
      case ',':
        cell = input_.empty() ? 0 : input_[read_ % input_.size()] % symbols_;
        ++read_;
        break;
      default:
        break;
    }
  }

 private:
  std::vector<std::uint32_t> tape_;
  std::uint32_t symbols_;
  const std::vector<Symbol>& input_;
  std::size_t pointer_ = 0;
  std::size_t read_ = 0;
};

struct TapeOutcome {
  std::vector<Symbol> output;
  std::uint64_t steps = 0;
  TapeHalt halt = TapeHalt::kEnded;
};

// What TapeProgram::Run does with a well-formed text and room for `capacity` symbols.
inline TapeOutcome Interpret(const std::string& text, const std::vector<Symbol>& input, const TapeLimits& limits,
                             std::size_t capacity) {
  std::vector<std::size_t> partner(text.size());
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '[') open.push_back(i);
    if (text[i] != ']') continue;
    partner[i] = open.back();
    partner[open.back()] = i;
    open.pop_back();
  }
  PlainTape tape(static_cast<std::size_t>(limits.cells), static_cast<std::uint32_t>(limits.symbols), input);
  TapeOutcome outcome;
  for (std::size_t at = 0; at < text.size();) {
    if (outcome.steps == limits.max_steps) {
      outcome.halt = TapeHalt::kStepLimit;
      return outcome;
    }
    ++outcome.steps;
    const char instruction = text[at];
    tape.Execute(instruction, outcome.output);
    if (outcome.output.size() == capacity) {
      outcome.halt = TapeHalt::kOutputLimit;
      return outcome;
    }
    if ((instruction == '[' && tape.cell() == 0) || (instruction == ']' && tape.cell() != 0)) at = partner[at];
    ++at;
    if (limits.repeat && at == text.size()) at = 0;
  }
  return outcome;
}

}  // namespace iterand
