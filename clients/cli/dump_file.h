// A dump: the token file of a training run, its sidecar, and how both survive a kill.
//
// In the folder of a dump called NAME in the format EXT (bin or npy):
//
//   NAME.EXT            the tokens; this name appears only when all are written
//   NAME.json           the sidecar: what the file holds (DumpIdentity), its size and its SHA-256
//   NAME.EXT.partial    the tokens so far, while a dump is in progress
//   NAME.EXT.journal    beside it: one JSON line that names the dump (DumpIdentity), then one line for each chunk that
//                       is safely on disk, in order: its SHA-256, a space, its number of sequences. A further JSON line
//                       replaces the first one: from there on the dump is to have another number of sequences.
//   NAME.snapshots/     pools to continue from (iterate/snapshots.h), of an endless pool
//   NAME.json.partial   locked by the process that writes NAME, in whatever format; becomes NAME.json
//
// A dump with loss masks is two such dumps, NAME and NAME.loss_mask. The second holds one uint8 per token, 1 where it
// is to be predicted.
//
// A chunk has 8 MiB or less: chunks are short at the start of a process and where sequences take long to make. (A
// journal of an earlier version has no numbers: all its chunks except the last are of 8 MiB.) A chunk's line is written
// to the journal only after its tokens are on disk. After a kill or a loss of power the journal therefore states what
// can be trusted. A dump that is opened again checks those chunks against their hashes, cuts NAME.EXT.partial after the
// last good one and continues from there. Nothing is taken over from a dump of another stream: opening it is refused.
//
// A complete dump may be extended: it is opened with more sequences than it has. Nothing changes until its file matches
// its checksum and the first new tokens exist. Then, each step on disk before the next:
//
//   1. NAME.EXT.journal is written: the new identity, and a line for every chunk of the file.
//   2. NAME.EXT is renamed to NAME.EXT.partial.
//   3. NAME.json is removed.
//
// From there on it is a dump in progress. Killed before step 2, it is the complete dump that it was. Killed later, it
// is a dump that continues, to as many sequences as the next command asks for, but no fewer than it has. No sequence is
// ever cut off or replaced. The tokens keep their place in the file, so a process that has it mapped loses nothing. In
// all other cases a file that has a final name is never changed, moved or replaced.
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
#include "clients/cli/dump_journal.h"
#include "clients/cli/open_file.h"
#include "clients/cli/sha256.h"

namespace iterand::cli {

// One dump being written. One process at a time may write a dump; a second one is refused.
class DumpFile {
 public:
  // Finds out how far the dump is, in a folder that exists. No file of the dump is made or changed before its first new
  // tokens exist. `verified` is called, now and then, with the number of sequences checked so far. Errors:
  // AlreadyExists for another stream's dump, one with more sequences, or foreign files in the way; DataLoss for a
  // complete dump that does not match its checksum; Unavailable if another process writes this dump; NotFound for a
  // sidecar that cannot be read; Internal with the system's words for other files that cannot be read or written.
  static absl::StatusOr<std::unique_ptr<DumpFile>> Open(const std::string& folder, const std::string& name,
                                                        const DumpIdentity& identity,
                                                        const std::function<void(std::uint64_t verified)>& verified);
  ~DumpFile();
  DumpFile(const DumpFile&) = delete;
  DumpFile& operator=(const DumpFile&) = delete;

  // Sequences that are safely on disk.
  std::uint64_t sequences() const { return sequences_; }
  // Whether all sequences are written and the file has its name and matches its checksum.
  bool complete() const { return complete_; }
  // What the file still lacks, in bytes; as a double, since it may exceed 2^64.
  double missing_bytes() const;

  // Adds sequences in the file's dtype, after those that are safe and those added before. They are safe when a chunk is
  // full, or a tenth of a second after the dump was opened. From there on the pauses double up to ten seconds. A
  // process that is killed again and again therefore still makes progress. After an error nothing may be added.
  absl::Status Append(std::span<const std::byte> tokens);
  // Makes safe what was added.
  absl::Status Commit();
  // The same, but only if that has rarely been done since the dump was opened. For use before a pause that may be long.
  absl::Status CommitAtStart();
  // Commits, and gives the files their names. All sequences must have been added. Errors also: AlreadyExists if a file
  // has come in the way.
  absl::Status Finish();

  const std::string& path() const { return path_; }
  const std::string& sha256() const { return sha256_; }  // of the whole file, once complete

 private:
  DumpFile(const std::string& base, const DumpIdentity& identity);

  absl::Status Find(const std::function<void(std::uint64_t)>& verified);
  void TakeLeftLock();
  absl::Status Damaged(const std::string& message) const;
  absl::Status OpenComplete(const Sidecar& sidecar, const std::function<void(std::uint64_t)>& verified);
  absl::Status OpenPartial(const std::function<void(std::uint64_t)>& verified);
  absl::Status ReadChunks(JournalReader& lines, OpenFile& data, const std::function<void(std::uint64_t)>& verified);
  absl::Status TakeUpNamed(const JournalReader& lines, OpenFile& data);
  absl::Status TakeUpPartial(const JournalReader& lines, std::unique_ptr<OpenFile> data);
  absl::Status CreateFiles();
  absl::Status BeginExtension();
  absl::Status SyncFolder() const;
  std::string IdentityLine() const { return identity_.ToJson().dump() + "\n"; }
  std::uint64_t FileBytes() const { return header_.size() + sequences_ * sequence_bytes_; }

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
  bool lock_has_content_ = false;   // from an earlier process
  // Open once there are sequences, unless the file has its name already.
  std::unique_ptr<OpenFile> data_;
  std::unique_ptr<OpenFile> journal_;
  bool named_ = false;              // the tokens have their name, and match the journal
  bool extends_ = false;            // the tokens have their name, and are fewer than asked for
  std::uint64_t kept_journal_ = 0;  // if it extends: bytes of the journal that stay,
  std::string further_journal_;     // and what follows them
  std::vector<std::byte> chunk_;    // not yet written
  std::chrono::steady_clock::time_point committed_ = std::chrono::steady_clock::now();
  std::chrono::milliseconds commit_interval_{100};  // the next one; at first
  Sha256 whole_;
  std::uint64_t sequences_ = 0;
  bool complete_ = false;
  std::string sha256_;
};

}  // namespace iterand::cli
