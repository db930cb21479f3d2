#include "clients/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace iterand::cli {
namespace {

constexpr int kUsualColumns = 80;

// Beginnings of TERM for terminals that show 16 colours at least.
constexpr std::array<std::string_view, 17> kColoured = {
    "alacritty", "ansi", "cygwin", "foot", "gnome", "iterm", "kitty",   "konsole", "linux",
    "putty",     "rxvt", "screen", "st-",  "tmux",  "vte",   "wezterm", "xterm",
};

ColourDepth ColoursWith(const Variables& variables) {
  if (!variables("NO_COLOR").empty()) return ColourDepth::kNone;
  const std::string term = variables("TERM");
  if (term.empty() || term == "dumb" || absl::EndsWith(term, "-mono") || absl::EndsWith(term, "-m")) {
    return ColourDepth::kNone;
  }
  const std::string colorterm = absl::AsciiStrToLower(variables("COLORTERM"));
  if (colorterm == "truecolor" || colorterm == "24bit" || absl::EndsWith(term, "-direct")) return ColourDepth::k24Bit;
  if (absl::EndsWith(term, "256color") || absl::EndsWith(term, "256colour")) return ColourDepth::k256;
  const bool coloured = !colorterm.empty() || absl::StrContains(term, "color") ||
                        std::ranges::any_of(kColoured, [&](std::string_view name) { return term.starts_with(name); });
  return coloured ? ColourDepth::k16 : ColourDepth::kNone;
}

// The first of the variables that is set decides, as in setlocale.
bool IsUnicode(const Variables& variables) {
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string locale = absl::AsciiStrToLower(variables(name));
    if (!locale.empty()) return absl::StrContains(locale, "utf-8") || absl::StrContains(locale, "utf8");
  }
  return false;
}

// "15;0" or "0;default;15": colours of text and ground, of which 7 and 9 to 15 are light.
bool IsLight(const std::string& colorfgbg) {
  const std::string ground = colorfgbg.substr(colorfgbg.rfind(';') + 1);
  return ground == "7" || ground == "9" || (ground.size() == 2 && ground >= "10" && ground <= "15");
}

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

Terminal TerminalWith(const Variables& variables, int columns) {
  return {.colours = ColoursWith(variables),
          .unicode = IsUnicode(variables),
          .light = IsLight(variables("COLORFGBG")),
          .columns = columns};
}

Terminal TerminalOf(int descriptor) {
  if (isatty(descriptor) != 1) return {};
  return TerminalWith(Variable, TerminalColumns(descriptor));
}

int TerminalColumns(int descriptor) {
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsualColumns;
  return size.ws_col;
}

}  // namespace iterand::cli
