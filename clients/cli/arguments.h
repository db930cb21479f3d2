// How arguments are read and shown in the help: strict numbers, sizes, choices.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace iterand::cli {

// A whole number in decimal within [low, high]. (CLI11's own conversion wraps -1 and cuts what is too large.)
CLI::Validator WholeNumber(std::uint64_t low, std::uint64_t high);

// A number within [low, high]. (CLI11's own check lets NaN through.)
CLI::Validator RealNumber(double low, double high);

// A number of bytes, or one with the unit kb, mb or gb (1 kb = 1024 bytes); turned into bytes.
CLI::Validator ByteSize();

// One of these words.
CLI::Validator OneOf(std::vector<std::string> words);

// Parses the command line as app.parse does, but takes every word literally. CLI11 would make a list of a word in
// brackets, such as a program of `iterand execute`.
void ParseCommandLine(CLI::App& app, int argc, char** argv);

// What is wrong with a command line, in our own words where CLI11's are hard to read.
std::string UsageMistake(const CLI::App& app, const CLI::ParseError& error);

// Help with one short line per option: the names, the value it takes, what it does, the default.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
};

}  // namespace iterand::cli
