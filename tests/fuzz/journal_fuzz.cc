// Files of a dump, with any bytes in them. Opening the dump changes no file that it refuses, and a finished dump has
// the checksum in its sidecar. An input is text: a line "@NAME" begins the content of tokens.NAME.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/cli/dump_file.h"
#include "nlohmann/json.hpp"
#include "tests/fuzz/expect.h"

namespace iterand::cli {
namespace {

namespace fs = std::filesystem;

using Files = std::map<std::string, std::string>;  // name -> content

DumpIdentity Identity(DumpFormat format) {
  DumpIdentity identity;
  identity.format = format;
  identity.dtype = Dtype::kUint8;
  identity.sequences = 6;
  identity.length = 16;
  identity.fingerprint = "f00d";
  return identity;
}

fs::path Folder() {
  static const fs::path folder = fs::temp_directory_path() / absl::StrCat("iterand-journal-fuzz-", getpid());
  return folder;
}

void Write(const Files& files) {
  fs::remove_all(Folder());
  fs::create_directories(Folder());
  for (const auto& [name, content] : files) std::ofstream(Folder() / name, std::ios::binary) << content;
}

Files Read() {
  Files files;
  for (const fs::directory_entry& entry : fs::directory_iterator(Folder())) {
    std::ifstream file(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] = {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  return files;
}

void Check(DumpFormat format, const Files& before) {
  Write(before);
  const DumpIdentity identity = Identity(format);
  const std::string name = absl::StrCat("tokens.", FormatName(format));
  {
    const auto file = DumpFile::Open(Folder(), "tokens", identity, [](std::uint64_t /*verified*/) {});
    if (file.ok()) {
      Expect((*file)->sequences() <= identity.sequences, "no more sequences than asked for");
      const std::size_t missing = (identity.sequences - (*file)->sequences()) * identity.sequence_bytes();
      Expect((*file)->Append(std::vector<std::byte>(missing, std::byte{7})).ok(), "sequences can be added");
      if (!(*file)->complete()) Expect((*file)->Finish().ok(), "a dump with all sequences can be finished");
    } else {
      Expect(!file.status().message().empty(), "a refusal says why");
    }
    if (!file.ok()) {
      for (const auto& [path, content] : Read()) {
        const auto there = before.find(path);
        Expect(there != before.end() && there->second == content,
               absl::StrCat(path, " is not changed by a refusal: ", std::string(file.status().message())));
      }
      // An empty lock belongs to no process.
      const auto lock = before.find("tokens.json.partial");
      const bool nobodys = lock != before.end() && lock->second.empty();
      Expect(Read().size() + (nobodys ? 1 : 0) >= before.size(), "no file is removed by a refusal");
      return;
    }
  }
  const Files after = Read();
  const auto tokens = after.find(name);
  const auto sidecar = after.find("tokens.json");
  Expect(tokens != after.end() && sidecar != after.end(), "a finished dump has its files");
  Expect(tokens->second.size() == identity.Header().size() + identity.sequences * identity.sequence_bytes(),
         "a finished dump has all sequences");
  Expect(tokens->second.starts_with(identity.Header()), "a finished dump has its header");
  Sha256 hash;
  hash.Update(std::as_bytes(std::span(tokens->second)));
  const auto json = nlohmann::json::parse(sidecar->second, nullptr, /*allow_exceptions=*/false);
  Expect(json.is_object() && json["sha256"] == hash.Finish(), "a finished dump matches its checksum");
  Write(after);
  const auto again = DumpFile::Open(Folder(), "tokens", identity, [](std::uint64_t /*verified*/) {});
  Expect(again.ok() && (*again)->complete(), "a finished dump is known again");
}

void Run(std::string_view input) {
  constexpr std::string_view kNames[] = {"bin",         "npy",         "json",        "bin.partial",
                                         "bin.journal", "npy.partial", "npy.journal", "json.partial"};
  Files files;
  std::string* content = nullptr;
  while (!input.empty()) {
    const std::string_view line = input.substr(0, input.find('\n') + (input.find('\n') != std::string_view::npos));
    const std::string_view rest = line.empty() ? std::string_view() : input.substr(line.size());
    const std::string_view whole = line.empty() ? input : line;
    const auto* const name = std::ranges::find_if(kNames, [&](std::string_view known) {
      return whole.size() == known.size() + 2 && whole[0] == '@' && whole.substr(1, known.size()) == known;
    });
    if (name != std::end(kNames)) {
      content = &files[absl::StrCat("tokens.", std::string(*name))];
    } else if (content != nullptr) {
      *content += whole;
    }
    input = rest;
  }
  for (const DumpFormat format : {DumpFormat::kBin, DumpFormat::kNpy}) Check(format, files);
  fs::remove_all(Folder());
}

}  // namespace
}  // namespace iterand::cli

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  iterand::cli::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
