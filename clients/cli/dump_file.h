// A dump: the token file of a training run, its sidecar, and how both survive a kill.
//
// In the folder of a dump called NAME in the format EXT (bin or npy):
//
//   NAME.EXT            the tokens; this name appears only when all are there
//   NAME.json           the sidecar: what the file holds (DumpIdentity), its size and its SHA-256
//   NAME.EXT.partial    the tokens so far, while a dump is under way
//   NAME.EXT.journal    beside it: one JSON line that names the dump, then one line for each chunk that is safely on
//                       disk, in order: its SHA-256, a space, its number of sequences
//   NAME.snapshots/     pools to go on from (iterate/snapshots.h) while a dump of an endless pool is under way
//   NAME.json.partial   locked by the process that writes NAME, in whatever format; becomes NAME.json
//
// A dump with masks is two such dumps, whose names are NAME and NAME.mask: the second holds one uint8 a token, 1 where
// it is to be predicted.
//
// A chunk is some 8 MiB, or less where they take long to make or the dump was interrupted. (A journal of an earlier
// version has no numbers: its chunks are of 8 MiB, but for the last.) A chunk's line is written to the journal only
// after its tokens are on disk, so after a kill or a loss of power the journal tells what can be trusted. A dump that
// is opened again checks those chunks against their hashes, cuts NAME.EXT.partial after the last good one and goes on
// from there. Nothing is taken over from a dump of another stream: opening it is refused. A file that has a final name
// is never changed, moved or replaced.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/cli/open_file.h"
#include "clients/cli/sha256.h"
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
  // Finds out how far the dump is, in a folder that is there. No file of the dump is made before its first tokens are.
  // `verified` is told, now and then, how many sequences have been checked. Errors: AlreadyExists for another stream's
  // dump or foreign files in the way, DataLoss for a complete dump that does not match its checksum, Unavailable if
  // another process writes this dump, NotFound for a sidecar that cannot be read, Internal with the system's words for
  // other files that cannot be read or written.
  static absl::StatusOr<std::unique_ptr<DumpFile>> Open(const std::string& folder, const std::string& name,
                                                        const DumpIdentity& identity,
                                                        const std::function<void(std::uint64_t verified)>& verified);
  ~DumpFile();
  DumpFile(const DumpFile&) = delete;
  DumpFile& operator=(const DumpFile&) = delete;

  // Sequences that are safely on disk.
  std::uint64_t sequences() const { return sequences_; }
  // All are there, the file has its name and matches its checksum.
  bool complete() const { return complete_; }
  // What the file still lacks, in bytes; as a double, since it may exceed 2^64.
  double missing_bytes() const;

  // Adds sequences in the file's dtype, after those that are safe and those added before. They are safe when a chunk
  // is full, or after some seconds. After an error nothing may be added.
  absl::Status Append(std::span<const std::byte> tokens);
  // Makes safe what was added.
  absl::Status Commit();
  // Commits, and gives the files their names. All sequences must be there. Errors also: AlreadyExists if a file has
  // come in the way.
  absl::Status Finish();

  const std::string& path() const { return path_; }
  const std::string& sha256() const { return sha256_; }  // of the whole file, once complete

 private:
  DumpFile(const std::string& base, const DumpIdentity& identity);

  absl::Status Find(const std::function<void(std::uint64_t)>& verified);
  absl::Status OpenComplete(const std::function<void(std::uint64_t)>& verified);
  absl::Status OpenPartial(bool journalled, const std::function<void(std::uint64_t)>& verified);
  absl::Status CreateFiles();

  std::string path_;
  std::string partial_path_;
  std::string journal_path_;
  std::string sidecar_path_;
  std::string lock_path_;
  DumpIdentity identity_;
  std::string header_;  // of the file, before the tokens
  std::size_t sequence_bytes_;
  std::size_t chunk_sequences_;     // at most
  std::unique_ptr<OpenFile> lock_;  // of lock_path_, which is removed with it
  // Open once sequences are there, unless the file has its name already.
  std::unique_ptr<OpenFile> data_;
  std::unique_ptr<OpenFile> journal_;
  bool named_ = false;            // the tokens have their name, and match the journal
  std::vector<std::byte> chunk_;  // not yet written
  std::chrono::steady_clock::time_point committed_ = std::chrono::steady_clock::now();
  Sha256 whole_;
  std::uint64_t sequences_ = 0;
  bool complete_ = false;
  std::string sha256_;
};

}  // namespace iterand::cli
