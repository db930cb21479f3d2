// What tests of `iterand dump` share: a folder of its own, the names of a dump's files in it, and how to tear one.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/clients/command_line.h"

namespace iterand::testing {

inline constexpr std::size_t kChunkBytes = std::size_t{8} << 20;

// The bytes as little-endian uint16.
inline std::string Widened(const std::string& bytes) {
  std::string wide;
  for (const char byte : bytes) {
    wide += byte;
    wide += '\0';
  }
  return wide;
}

// The tokens of `iterand sample`, raw.
inline std::string Raw(const std::string& arguments) { return RunIterand("sample --format raw " + arguments).out; }

class CliDump : public ::testing::Test {
 protected:
  std::string out() const { return scratch_.File("dump"); }
  std::string tokens() const { return out() + "/tokens.bin"; }
  std::string sidecar() const { return out() + "/tokens.json"; }
  std::string partial() const { return tokens() + ".partial"; }
  std::string journal() const { return tokens() + ".journal"; }
  CommandResult Dump(const std::string& arguments) const { return RunIterand("dump --out " + out() + " " + arguments); }

  // Puts a complete dump back into the state of one that was killed. It has `bytes` of its tokens. The journal vouches
  // for `chunks` chunks, in lines as those of earlier versions, without numbers.
  void MakePartial(std::size_t chunks, std::size_t bytes) const {
    const std::string data = ReadWholeFile(tokens());
    nlohmann::ordered_json description = nlohmann::ordered_json::parse(ReadWholeFile(sidecar()));
    std::string lines = description.dump() + "\n";
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
      lines += Sha256Hex(data.substr(chunk * kChunkBytes, kChunkBytes)) + "\n";
    }
    WriteWholeFile(journal(), lines);
    WriteWholeFile(partial(), data.substr(0, bytes));
    std::filesystem::remove(tokens());
    std::filesystem::remove(sidecar());
  }

  ScratchFolder scratch_;
};

}  // namespace iterand::testing
