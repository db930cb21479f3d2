// Programs for the byte machine of the family `tape_machine`, which a server runs: see Client::Execute.
//
// A program is made of the instructions + - > < [ ] . , with spaces, tabs and line ends between them. It works on a
// circular tape of cells and writes symbols.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace iterand {

struct ExecuteProgram {
  std::string text = {};  // at most 65 536 characters

  // The input tape: these bytes, at most 65 536, or 4096 random symbols of a seed. At most one of the two may be given.
  // Without either the tape is empty and reads as 0.
  std::optional<std::string> input = {};
  std::optional<std::uint64_t> seed = {};
};

// The limits of every program of a call.
struct ExecuteOptions {
  std::uint64_t max_steps = 65536;  // instructions; 1 to 2^26, and 2^33 for all programs together
  std::uint32_t max_output = 4096;  // symbols; 1 to 65 536
  std::uint32_t cells = 64;         // of the tape; 1 to 65 536
  std::uint32_t symbols = 256;      // values of a cell; 2 to 256
  bool repeat = false;              // start a program that has ended again, on the same tape
};

struct ExecuteResult {
  enum class Halt {
    kEnded,        // after its last instruction
    kStepLimit,    // after max_steps instructions
    kOutputLimit,  // with max_output symbols written
  };
  std::size_t program = 0;  // its position in the call, from 0
  std::string output = {};  // one byte per symbol
  std::uint64_t steps = 0;  // instructions executed
  Halt halt = Halt::kEnded;
};

}  // namespace iterand
