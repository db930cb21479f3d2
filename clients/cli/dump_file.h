// A dump: the token file of a training run, its sidecar, and how both survive a kill.
//
// In the folder of a dump called NAME in the format EXT (bin or npy):
//
//   NAME.EXT           the tokens; this name appears only when all are there
//   NAME.json          the sidecar: what the file holds (DumpIdentity), its size and its SHA-256
//   NAME.EXT.partial   the tokens so far, while a dump is under way
//   NAME.EXT.journal   beside it: one JSON line that names the dump, then one line with a SHA-256 for each chunk that
//   is
//                      safely on disk, in order
//
// A dump with masks is two such files, whose names are NAME and NAME.mask: the second holds one uint8 a token, 1 where
// it is to be predicted.
//
// A chunk is a fixed number of sequences, some 8 MiB. Its line is written to the journal only after its tokens are on
// disk, so after a kill or a loss of power the journal tells what can be trusted. A dump that is opened again checks
// those chunks against their hashes, cuts the file after the last good one and goes on from there. Nothing is taken
// over from a dump of another stream: opening it is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterate/segment.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {

enum class DumpFormat {
  kBin,  // nothing but tokens, row-major, little-endian, uint16: the file that nanoGPT-style trainers memory-map (a
         // mask: uint8)
  kNpy,  // NumPy array sequences x length of the stream's own dtype
};

// What a dump holds. Two dumps are the same iff all of this is equal.
struct DumpIdentity {
  DumpFormat format = DumpFormat::kBin;
  Dtype dtype = Dtype::kUint16;  // of the file
  bool mask = false;             // not the tokens but their mask
  std::uint64_t sequences = 0;
  int length = 0;
  std::uint64_t start = 0;  // first index asked for
  std::uint32_t rank = 0;
  std::uint32_t world = 1;
  std::uint64_t seed = 0;
  std::int64_t vocab_size = 0;
  std::string fingerprint;  // hexadecimal
  std::uint32_t engine_version = 0;
  nlohmann::ordered_json recipe;  // resolved

  nlohmann::ordered_json ToJson() const;
};

// One dump being written. One process at a time may write a dump; a second one is refused.
class DumpFile {
 public:
  // Creates the folder if need be and finds out how far the dump is. `verified` is told, now and then, how many
  // sequences have been checked. Errors: AlreadyExists for another stream's dump or foreign files in the way, DataLoss
  // for a complete dump that does not match its checksum, Unavailable if another process writes this dump, Internal
  // with the system's words for files that cannot be read or written.
  static absl::StatusOr<std::unique_ptr<DumpFile>> Open(const std::string& folder, const std::string& name,
                                                        const DumpIdentity& identity,
                                                        const std::function<void(std::uint64_t verified)>& verified);
  ~DumpFile();
  DumpFile(const DumpFile&) = delete;
  DumpFile& operator=(const DumpFile&) = delete;

  // Sequences that are there; the next Append gives the one after them.
  std::uint64_t sequences() const { return sequences_; }
  // All are there, the file has its name and matches its checksum.
  bool complete() const { return complete_; }

  // Adds sequences in the file's dtype.
  absl::Status Append(std::span<const std::byte> tokens);
  // Gives the files their names. All sequences must be there.
  absl::Status Finish();

  const std::string& path() const { return path_; }
  const std::string& sha256() const { return sha256_; }  // of the whole file, once complete

 private:
  class Descriptor;
  DumpFile(std::string path, std::string sidecar, const DumpIdentity& identity);

  absl::Status OpenComplete(const std::function<void(std::uint64_t)>& verified);
  absl::Status OpenPartial(const std::function<void(std::uint64_t)>& verified);
  absl::Status CommitChunk();

  std::string path_;
  std::string sidecar_path_;
  DumpIdentity identity_;
  std::string header_;  // of the file, before the tokens
  std::size_t sequence_bytes_;
  std::size_t chunk_bytes_;
  std::unique_ptr<Descriptor> data_;
  std::unique_ptr<Descriptor> journal_;
  std::vector<std::byte> chunk_;  // not yet written
  struct Hashes;
  std::unique_ptr<Hashes> hashes_;
  std::uint64_t sequences_ = 0;
  bool complete_ = false;
  std::string sha256_;
};

}  // namespace iterand::cli
