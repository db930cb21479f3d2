// Shortens text from elsewhere.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace iterand {

// `text` with at most `most` bytes, and "..." in place of the rest. Does not cut a UTF-8 character.
inline std::string Shorten(std::string_view text, std::size_t most) {
  if (text.size() <= most) return std::string(text);
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return std::string(text.substr(0, most)) + "...";
}

}  // namespace iterand
