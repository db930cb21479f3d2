// Makes text from elsewhere safe for a terminal or a log.
#pragma once

#include <string>
#include <string_view>

namespace iterand {

// `text` with everything replaced that could end a line, command a terminal, reorder or hide the text beside it:
// control characters (newline, NUL, ESC, DEL, C1), Unicode's format characters and separators (bidirectional overrides,
// U+2028, zero-width characters), private use and noncharacters. They become the escapes of JSON: \n, \u001b, \u202e,
// \udb40\udc01. A byte that is not part of valid UTF-8 becomes \x and two digits. Printable ASCII stays, the backslash
// too, so JSON text keeps its meaning.
std::string Printable(std::string_view text);

// The same, except that newlines stay: for texts of several lines.
std::string PrintableLines(std::string_view text);

}  // namespace iterand
