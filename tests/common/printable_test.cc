// Text from elsewhere, made safe for a terminal.
#include "common/printable.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace iterand {
namespace {

using namespace std::string_literals;

TEST(Printable, PrintableTextStays) {
  for (const std::string& text : {""s, "plain text, with \\ and \"quotes\""s, "Grüße"s, "日本語"s, "🙂"s}) {
    EXPECT_EQ(Printable(text), text);
  }
}

TEST(Printable, EscapesWhatCommandsOrHides) {
  struct Case {
    std::string text;
    std::string escaped;
  };
  for (const auto& [text, escaped] : {
           Case{"a\nb\rc\td"s, "a\\nb\\rc\\td"}, Case{"a\0b"s, "a\\u0000b"},
           Case{"\x1b[31m\a\b"s, "\\u001b[31m\\u0007\\u0008"}, Case{"\x7f"s, "\\u007f"},
           Case{"\xc2\x9b"s
                "31m"s,
                "\\u009b31m"},  // C1: CSI in one character
           Case{"\xe2\x80\xae"s
                "txt.exe"s,
                "\\u202etxt.exe"},                                          // U+202E
           Case{"\xe2\x81\xa6\xe2\x81\xa9"s, "\\u2066\\u2069"},             // isolates
           Case{"\xd8\x9c\xe2\x80\x8f"s, "\\u061c\\u200f"},                 // Arabic letter mark, right-to-left mark
           Case{"\xe2\x80\xa8\xe2\x80\xa9"s, "\\u2028\\u2029"},             // separators of lines and paragraphs
           Case{"\xe2\x80\x8b\xef\xbb\xbf"s, "\\u200b\\ufeff"},             // of no width
           Case{"\xc2\xad\xc2\xa0"s, "\\u00ad\\u00a0"},                     // soft hyphen, no-break space
           Case{"\xf3\xa0\x81\x81"s, "\\udb40\\udc41"},                     // a tag, U+E0041
           Case{"\xee\x80\x80\xf4\x80\x80\x80"s, "\\ue000\\udbc0\\udc00"},  // private use
           Case{"\xef\xbf\xbe\xf0\x9f\xbf\xbf"s, "\\ufffe\\ud83f\\udfff"},  // noncharacters
       }) {
    EXPECT_EQ(Printable(text), escaped);
  }
}

TEST(Printable, EscapesBytesThatAreNotUtf8) {
  struct Case {
    std::string_view text;
    std::string_view escaped;
  };
  for (const auto& [text, escaped] : {
           Case{"\xff", "\\xff"},
           Case{"a\x80z", "a\\x80z"},
           Case{"\xc3", "\\xc3"},                             // cut off
           Case{"\xe2\x80", "\\xe2\\x80"},                    // cut off
           Case{"\xc0\x8a", "\\xc0\\x8a"},                    // a newline, overlong
           Case{"\xe0\x80\x8a", "\\xe0\\x80\\x8a"},           // likewise
           Case{"\xed\xa0\x80", "\\xed\\xa0\\x80"},           // a surrogate
           Case{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},  // beyond U+10FFFF
           Case{"\xe2\x28\xa1", "\\xe2(\\xa1"},
       }) {
    EXPECT_EQ(Printable(text), escaped);
  }
}

TEST(Printable, LinesKeepTheirNewlines) { EXPECT_EQ(PrintableLines("a\nb\x1b\r\n"), "a\nb\\u001b\\r\n"); }

// Any input gives valid UTF-8 without a control character, and a second pass changes nothing.
TEST(Printable, EveryPairOfBytes) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string text = {static_cast<char>(first), static_cast<char>(second)};
      const std::string once = Printable(text);
      for (const char character : once) {
        ASSERT_GE(static_cast<unsigned char>(character), 0x20) << first << " " << second;
        ASSERT_NE(character, 0x7f);
      }
      ASSERT_EQ(Printable(once), once) << first << " " << second;
    }
  }
}

}  // namespace
}  // namespace iterand
