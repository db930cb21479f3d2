#include "clients/cli/arguments.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "iterate/suggest.h"

namespace iterand::cli {
namespace {

// SimpleAtoi without its leniency towards signs and white space.
bool ParseWhole(const std::string& text, std::uint64_t& value) {
  return !text.empty() && absl::ascii_isdigit(text[0]) && absl::ascii_isdigit(text.back()) &&
         absl::SimpleAtoi(text, &value);
}

// A word in brackets, however many guards already follow it.
constexpr char kGuard = ' ';
bool IsInBrackets(const std::string& word) {
  return absl::StartsWith(word, "[") && absl::EndsWith(absl::StripTrailingAsciiWhitespace(word), "]");
}

// Makes every option of a command remove the guard that ParseCommandLine has added.
void UnguardOptions(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    if (option->get_expected_max() == 0) continue;  // a flag
    option->transform(CLI::Validator(
        [](std::string& word) {
          if (IsInBrackets(word)) word.pop_back();
          return std::string();
        },
        ""));
  }
}

// Options that an earlier version had under another name, and what to write instead.
constexpr std::pair<std::string_view, std::string_view> kRenamed[] = {
    {"auth-token-file", "--token-file"},
    {"cache", "--cache-bytes"},
    {"mask", "--loss-mask"},
    {"max-batch", "--max-batch-bytes"},
    {"prefetch", "--readahead-bytes"},
    {"queue", "--max-stream-bytes"},
    {"sequences", "--count"},
    {"shard", "--rank R --world-size W"},
    {"snapshots", "--snapshot-dir"},
    {"snapshots-size", "--snapshot-bytes"},
    {"tls-root", "--ca-file"},
};

// The name of a word that is an option: without its dashes and its value.
std::string_view BareName(std::string_view word) {
  word = word.substr(0, word.find('='));
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  return word;
}

// The new name of an option that the command had under the name `word`, or nothing.
std::string RenamedOption(const CLI::App& command, const std::string& word) {
  if (!absl::StartsWith(word, "--")) return "";
  for (const auto& [old_name, now] : kRenamed) {
    const std::string_view option = now.substr(0, now.find(' '));
    if (old_name == BareName(word) && command.get_option_no_throw(std::string(option)) != nullptr) {
      return absl::StrCat(" (--", std::string(old_name), " is now ", std::string(now), ")");
    }
  }
  return "";
}

// The commands or options that a word which was not expected may have meant.
std::string Suggestion(const CLI::App& app, const std::string& word) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  std::vector<std::string> names;
  if (absl::StartsWith(word, "-")) {
    const CLI::App& command = chosen.empty() ? app : *chosen.back();
    for (const CLI::Option* option : command.get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back(name);
    }
    // Dashes are left out of the comparison, since they would count as letters that match.
    return DidYouMean(BareName(word), names, "--");
  }
  if (!chosen.empty()) return "";
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return DidYouMean(word, names);
}

}  // namespace

CLI::Validator WholeNumber(std::uint64_t low, std::uint64_t high) {
  return CLI::Validator(
      [low, high](std::string& text) {
        std::uint64_t value = 0;
        if (ParseWhole(text, value) && low <= value && value <= high) return std::string();
        return absl::StrCat("'", text, "' is not a whole number from ", low, " to ", high);
      },
      "");
}

CLI::Validator RealNumber(double low, double high) {
  return CLI::Validator(
      [low, high](std::string& text) {
        double value = 0;
        if (absl::SimpleAtod(text, &value) && low <= value && value <= high) return std::string();  // never NaN
        return absl::StrCat("'", text, "' is not a number from ", low, " to ", high);
      },
      "");
}

CLI::Validator ByteSize() {
  return CLI::Validator(
      [](std::string& text) {
        std::string number = absl::AsciiStrToLower(text);
        int shift = 0;
        for (const auto& [unit, bits] : {std::pair{"kb", 10}, std::pair{"mb", 20}, std::pair{"gb", 30}}) {
          if (!absl::EndsWith(number, unit)) continue;
          number.resize(number.size() - 2);
          shift = bits;
        }
        std::uint64_t value = 0;
        if (!ParseWhole(number, value) || value > std::numeric_limits<std::uint64_t>::max() >> (shift + 1)) {
          return absl::StrCat("'", text, "' is not a number of bytes, or one with kb, mb or gb, such as 64mb");
        }
        text = absl::StrCat(value << shift);
        return std::string();
      },
      "");
}

CLI::Validator OneOf(std::vector<std::string> words) {
  return CLI::Validator(
      [words = std::move(words)](std::string& text) {
        for (const std::string& word : words) {
          if (text == word) return std::string();
        }
        return absl::StrCat("'", text, "' is not one of ", absl::StrJoin(words, ", "), DidYouMean(text, words));
      },
      "");
}

void ParseCommandLine(CLI::App& app, int argc, char** argv) {
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) UnguardOptions(*command);
  std::vector<std::string> words;
  for (int i = argc - 1; i > 0; --i) {  // CLI11 wants them backwards
    words.emplace_back(argv[i]);
    if (IsInBrackets(words.back())) words.back() += kGuard;
  }
  app.parse(std::move(words));
}

std::string UsageMistake(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> words = app.remaining(/*recurse=*/true);
  // Checked first, since an option under its old name may be missing under its new one.
  if (const std::vector<CLI::App*> chosen = app.get_subcommands(); !chosen.empty()) {
    for (const std::string& word : words) {
      const std::string renamed = RenamedOption(*chosen.back(), word);
      if (!renamed.empty()) return absl::StrCat("not expected here: ", word, renamed);
    }
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    return absl::StrCat("not expected here: ", absl::StrJoin(words, " "),
                        words.empty() ? "" : Suggestion(app, words.front()));
  }
  std::string message = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const std::string option = message.substr(0, message.find(':'));
    if (absl::StrContains(message, "At Most 1 required")) return absl::StrCat(option, " is given more than once");
    if (absl::StrContains(message, "missing")) return absl::StrCat(option, " needs a value");
  }
  return message;
}

HelpFormatter::HelpFormatter() { column_width(30); }

std::string HelpFormatter::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  return absl::StrReplaceAll(CLI::Formatter::make_help(app, std::move(name), mode), {{"\n\n\n", "\n\n"}});
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  return option->get_type_name().empty() ? "" : absl::StrCat(" ", option->get_type_name());
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  std::string text = option->get_description();
  if (option->get_required()) absl::StrAppend(&text, " (required)");
  if (!option->get_default_str().empty()) absl::StrAppend(&text, " [", option->get_default_str(), "]");
  return text;
}

}  // namespace iterand::cli
