// What a terminal can show.
#pragma once

#include <functional>
#include <string>

namespace iterand::cli {

enum class ColourDepth { kNone, k16, k256, k24Bit };

struct Terminal {
  ColourDepth colours = ColourDepth::kNone;
  bool unicode = false;  // it shows UTF-8
  bool light = false;    // its ground is light; false also if it does not say
  int columns = 80;
};

// The value of an environment variable; empty if it is not set.
using Variables = std::function<std::string(const char* name)>;

// The terminal that a file descriptor is. What is not a terminal has no colours.
// There are no colours either if NO_COLOR is set (no-color.org) or TERM is dumb, unset or names a monochrome terminal.
// COLORTERM says that there are 24 bits, TERM that there are 256 colours. COLORFGBG ends with the ground's number.
Terminal TerminalOf(int descriptor);

// The same for a terminal of this width, with these variables.
Terminal TerminalWith(const Variables& variables, int columns);

// Columns of a terminal; 80 if the descriptor is none or does not say.
int TerminalColumns(int descriptor);

}  // namespace iterand::cli
