// What the journal and the sidecar of a dump say; dump_file.h has the layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterate/dtype.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {

inline constexpr char kDumpVersion[] = "iterand dump 2";
inline constexpr std::uint64_t kMaxDumpSequences = std::uint64_t{1} << 48;
// A description contains the recipe with all fields, which is larger than a recipe file may be.
inline constexpr std::size_t kMaxSidecarBytes = std::size_t{64} << 20;

enum class DumpFormat {
  kBin,  // only tokens, row-major, little-endian, uint16: the file that nanoGPT-style trainers memory-map (a
         // mask: uint8)
  kNpy,  // NumPy array sequences x length of the stream's own dtype
};

// "bin" or "npy".
std::string FormatName(DumpFormat format);

// What a dump holds. Two dumps are the same iff all of this is equal.
struct DumpIdentity {
  DumpFormat format = DumpFormat::kBin;
  Dtype dtype = Dtype::kUint16;  // of the file
  bool loss_mask = false;        // not the tokens but their mask
  std::uint64_t sequences = 0;
  int length = 0;
  std::uint64_t start = 0;  // first index asked for
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;
  std::uint64_t seed = 0;
  std::int64_t vocab_size = 0;
  std::string fingerprint;  // hexadecimal
  std::uint32_t engine_version = 0;
  nlohmann::ordered_json recipe;  // resolved

  nlohmann::ordered_json ToJson() const;

  // Bytes of one sequence in the file.
  std::size_t sequence_bytes() const { return static_cast<std::size_t>(length) * DtypeBytes(dtype); }
  // The bytes before the tokens. A .npy file, version 1.0, has the magic, the length of the text, and a Python dict
  // padded to a multiple of 64 bytes. Their size does not depend on `sequences`.
  std::string Header() const;
};

// AlreadyExists: `path` is not a file of ours, or must not be changed.
absl::Status InTheWay(const std::string& path, const std::string& why);

// How many sequences the dump has that `found` describes, the description in `path`. Everything else must be equal to
// `wanted`. Errors: AlreadyExists that names what differs.
absl::StatusOr<std::uint64_t> DescribedSequences(const std::string& path, const nlohmann::ordered_json& found,
                                                 const DumpIdentity& wanted);

// A sidecar.
struct Sidecar {
  std::uint64_t sequences = 0;
  std::string sha256;  // of the whole file; empty if the sidecar has none
};
// Errors: as DescribedSequences; NotFound for a sidecar that cannot be read.
absl::StatusOr<Sidecar> ReadSidecar(const std::string& path, const DumpIdentity& wanted);

// A line of the journal that vouches for a chunk.
struct ChunkLine {
  std::string sha256;
  std::uint64_t sequences = 0;
};
std::string ToLine(const ChunkLine& chunk);

// Reads a journal line by line. Whatever bytes the file has, the work is linear in its size.
class JournalReader {
 public:
  // Reads the first line, unless it is torn. Errors: AlreadyExists for a file that is not a journal, or one of another
  // dump.
  static absl::StatusOr<JournalReader> Open(const std::string& path, const DumpIdentity& wanted);

  // The first line is torn by a kill at the very start, or missing: the journal vouches for nothing.
  bool torn() const { return target_ == 0; }
  // How many sequences the dump is to have, by the lines so far.
  std::uint64_t target() const { return target_; }
  // Bytes of the lines that Next has passed. The line that it returned last counts once Accept is called.
  std::uint64_t size() const { return size_; }
  // Whether Next has returned nothing because no whole line is left.
  bool at_end() const { return at_end_; }

  // The next chunk of at most `most` sequences, after `before` of them. Nothing at the end, or before a line that this
  // dump could not have.
  std::optional<ChunkLine> Next(std::uint64_t before, std::uint64_t most);
  void Accept() { size_ += pending_; }

 private:
  JournalReader(const std::string& path, const DumpIdentity& wanted);

  std::string path_;
  const DumpIdentity* wanted_;
  std::ifstream file_;
  std::uint64_t target_ = 0;
  std::uint64_t size_ = 0;
  std::uint64_t pending_ = 0;
  bool at_end_ = false;
};

}  // namespace iterand::cli
