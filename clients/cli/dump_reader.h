// Reads token files: what `iterand dump` has written, and files of the same two formats from elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/types.h"
#include "iterand/v1/recipe.pb.h"

namespace iterand::cli {

// Whether an argument names a dump, and not a recipe: a folder, a file that ends in .bin or .npy, or the description
// of a dump (NAME.json).
bool NamesDump(const std::string& argument);

// What a token file holds.
struct TokenFile {
  std::string path;
  Dtype dtype = Dtype::kUint16;
  std::uint64_t data_offset = 0;  // bytes before the tokens
  std::uint64_t sequences = 0;
  int length = 0;  // tokens per sequence

  // From the description beside it.
  bool described = false;
  std::uint32_t engine_version = 0;
  std::uint64_t seed = 0;
  std::string fingerprint;        // hexadecimal
  std::uint64_t first_index = 0;  // of the first sequence
  std::uint64_t stride = 1;       // from one sequence's index to the next one's
  v1::Recipe recipe;              // resolved
};

// Finds a dump's file and what it holds. A folder must have one dump. A file without a description has `length` tokens
// per sequence; that of a dump, or of an array of two dimensions, must equal it if it is given. Errors, with the path:
// NotFound for files that do not exist; InvalidArgument for a folder of several dumps, a dump in progress, a loss mask,
// a damaged or foreign description, a file of another size than described, an array of other numbers.
absl::StatusOr<TokenFile> FindTokenFile(const std::string& argument, std::optional<std::uint32_t> length);

// Reads the sequences of a token file one by one.
class TokenFileReader {
 public:
  // Begins at sequence `first` of the file.
  TokenFileReader(const TokenFile& file, std::uint64_t first);

  // The next sequence, as 32-bit numbers. Errors: DataLoss if the file ends or cannot be read.
  absl::Status Next(std::span<std::uint32_t> tokens);

 private:
  const TokenFile& file_;
  std::ifstream stream_;
  std::vector<std::byte> bytes_;
  std::vector<std::uint32_t> wide_;
};

}  // namespace iterand::cli
