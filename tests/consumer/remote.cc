// remote ADDRESS PRESET SEED: writes the tokens of the first 64 sequences to standard output.
#include <iterand/client.h>

#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  auto client = iterand::Client::Connect(argv[1]);
  if (!client.ok()) {
    std::cerr << client.status() << "\n";
    return 1;
  }
  auto stream = (*client)->Stream(
      {.recipe = argv[2], .seed = std::strtoull(argv[3], nullptr, 10), .count = 64, .batch_size = 24});
  if (!stream.ok()) {
    std::cerr << stream.status() << "\n";
    return 1;
  }
  iterand::Batch batch;
  while ((*stream)->Next(batch)) {
    std::cout.write(reinterpret_cast<const char*>(batch.tokens().data()),
                    static_cast<std::streamsize>(batch.token_bytes()));
  }
  if (!(*stream)->status().ok()) {
    std::cerr << (*stream)->status() << "\n";
    return 1;
  }
}
