// local PRESET SEED: writes the tokens of the first 64 sequences to standard output.
#include <iterand/stream.h>

#include <cstdlib>
#include <iostream>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto stream = iterand::LocalStream::Open({.recipe = argv[1], .seed = std::strtoull(argv[2], nullptr, 10)});
  if (!stream.ok()) {
    std::cerr << stream.status() << "\n";
    return 1;
  }
  std::vector<std::byte> tokens(64 * stream->info().sequence_bytes());
  if (const absl::Status status = stream->Read({.first_index = 0, .rows = 64}, tokens); !status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  std::cout.write(reinterpret_cast<const char*>(tokens.data()), static_cast<std::streamsize>(tokens.size()));
}
