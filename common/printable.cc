#include "common/printable.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "absl/strings/str_format.h"

namespace iterand {
namespace {

struct Range {
  std::uint32_t first;
  std::uint32_t last;
};

// Of Unicode 16, the categories Cc, Cf, Zl, Zp, Zs, Co and Cs, noncharacters, and the whole blocks of tags and of
// specials, from U+0080 on.
constexpr Range kUnprintable[] = {{0x80, 0xa0},       {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
                                  {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},     {0x8e2, 0x8e2},
                                  {0x1680, 0x1680},   {0x180e, 0x180e},   {0x2000, 0x200f},   {0x2028, 0x202f},
                                  {0x205f, 0x206f},   {0x3000, 0x3000},   {0xd800, 0xf8ff},   {0xfdd0, 0xfdef},
                                  {0xfeff, 0xfeff},   {0xfff0, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd},
                                  {0x110cd, 0x110cd}, {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a},
                                  {0xe0000, 0xe0fff}, {0xf0000, 0x10ffff}};

bool IsPrintable(std::uint32_t code) {
  if (code < 0x80) return 0x20 <= code && code < 0x7f;
  if ((code & 0xfffe) == 0xfffe) return false;  // the last two of each plane are noncharacters
  const Range* const range = std::ranges::lower_bound(kUnprintable, code, {}, &Range::last);
  return range == std::end(kUnprintable) || code < range->first;
}

// The length of the valid UTF-8 sequence that `text` begins with, or 0.
std::size_t Decode(std::string_view text, std::uint32_t& code) {
  const auto byte = [&](std::size_t i) -> std::uint32_t { return static_cast<unsigned char>(text[i]); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) {
    code = lead;
    return 1;
  }
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const std::size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (text.size() < size) return 0;
  code = lead & (0x7fU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool valid = code >= kSmallest[size] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  return valid ? size : 0;
}

void AppendEscape(std::uint32_t code, std::string& out) {
  switch (code) {
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  if (code < 0x10000) {
    absl::StrAppendFormat(&out, "\\u%04x", code);
  } else {
    absl::StrAppendFormat(&out, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
  }
}

std::string Escape(std::string_view text, bool keep_newlines) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    std::uint32_t code = 0;
    std::size_t size = Decode(text, code);
    if (size == 0) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(text[0]));
      size = 1;
    } else if (IsPrintable(code) || (keep_newlines && code == '\n')) {
      out += text.substr(0, size);
    } else {
      AppendEscape(code, out);
    }
    text.remove_prefix(size);
  }
  return out;
}

}  // namespace

std::string Printable(std::string_view text) { return Escape(text, /*keep_newlines=*/false); }

std::string PrintableLines(std::string_view text) { return Escape(text, /*keep_newlines=*/true); }

}  // namespace iterand
