#include "clients/cli/dump_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kChunkBytes = std::size_t{8} << 20;
// After this long, even less than a chunk is made safe; sooner at the start.
constexpr std::chrono::milliseconds kMaxCommitInterval = std::chrono::seconds(10);

// Refuses to make a dump of fewer sequences than there are.
absl::Status MoreThanAsked(const std::string& path, std::uint64_t there, std::uint64_t asked) {
  return absl::AlreadyExistsError(absl::StrCat(path, " has ", there, " sequences of this dump already, and ", asked,
                                               " are asked for: a dump can be extended, but not cut; ask for ", there,
                                               " or more, or choose another --out or --name"));
}

}  // namespace

DumpFile::DumpFile(const std::string& base, const DumpIdentity& identity)
    : path_(absl::StrCat(base, ".", FormatName(identity.format))),
      partial_path_(path_ + ".partial"),
      journal_path_(path_ + ".journal"),
      sidecar_path_(base + ".json"),
      lock_path_(sidecar_path_ + ".partial"),
      identity_(identity),
      header_(identity.Header()),
      sequence_bytes_(identity.sequence_bytes()),
      chunk_sequences_(std::max<std::size_t>(1, kChunkBytes / sequence_bytes_)) {
  whole_.Update(std::as_bytes(std::span(header_)));
}

DumpFile::~DumpFile() {
  if (lock_ != nullptr) unlink(lock_path_.c_str());
}

double DumpFile::missing_bytes() const {
  return static_cast<double>(identity_.sequences - sequences_) * static_cast<double>(sequence_bytes_);
}

absl::StatusOr<std::unique_ptr<DumpFile>> DumpFile::Open(const std::string& folder, const std::string& name,
                                                         const DumpIdentity& identity,
                                                         const std::function<void(std::uint64_t)>& verified) {
  std::unique_ptr<DumpFile> dump(new DumpFile((fs::path(folder) / name).string(), identity));
  absl::Status status = dump->Find(verified);
  if (status.ok()) return dump;
  // The locked file's earlier content may be that of another dump, like everything else that is refused.
  if (dump->lock_has_content_) dump->lock_.reset();
  return status;
}

absl::Status DumpFile::Find(const std::function<void(std::uint64_t)>& verified) {
  absl::StatusOr<bool> described = Exists(sidecar_path_);
  if (!described.ok()) return described.status();
  absl::StatusOr<bool> journalled = Exists(journal_path_);
  if (!journalled.ok()) return journalled.status();
  if (*described && !*journalled) {
    const absl::StatusOr<Sidecar> sidecar = ReadSidecar(sidecar_path_, identity_);
    if (!sidecar.ok()) return sidecar.status();
    // A complete dump is only read, so it may be where nothing can be written.
    if (sidecar->sequences >= identity_.sequences) {
      const absl::Status status = OpenComplete(*sidecar, verified);
      if (status.ok()) TakeLeftLock();
      return status;
    }
  }

  absl::StatusOr<std::unique_ptr<OpenFile>> lock = OpenFile::OpenLocked(lock_path_);
  if (!lock.ok()) return lock.status();
  // From here on no other process changes the dump's files; one may have done so just now.
  described = Exists(sidecar_path_);
  if (!described.ok()) return described.status();
  journalled = Exists(journal_path_);
  if (!journalled.ok()) return journalled.status();
  const absl::StatusOr<bool> named = Exists(path_);
  if (!named.ok()) return named.status();
  const absl::StatusOr<bool> in_progress = Exists(partial_path_);
  if (!in_progress.ok()) return in_progress.status();
  // If a kill has left content in the locked file, there is a journal beside it.
  const absl::StatusOr<std::uint64_t> size = (*lock)->Size();
  if (!size.ok()) return size.status();
  if (*size > 0 && !*journalled) return InTheWay(lock_path_, "nothing tells what it holds");
  lock_ = *std::move(lock);
  lock_has_content_ = *size > 0;
  if (!*described && !*journalled) {
    for (const auto& [there, path] : {std::pair(*named, &path_), std::pair(*in_progress, &partial_path_)}) {
      if (there) return InTheWay(*path, "nothing tells what it holds");
    }
    return absl::OkStatus();
  }
  if (!*described) {
    if (*named && *in_progress) return InTheWay(path_, absl::StrCat("this dump is in progress in ", partial_path_));
    return OpenPartial(verified);
  }

  const absl::StatusOr<Sidecar> sidecar = ReadSidecar(sidecar_path_, identity_);
  if (!sidecar.ok()) return sidecar.status();
  if (*journalled && *in_progress && !*named) {
    // Killed after an extension gave the tokens another name, and before it removed the sidecar.
    if (absl::Status status = OpenPartial(verified); !status.ok()) return status;
    if (unlink(sidecar_path_.c_str()) != 0) return FileError(sidecar_path_, errno);
    return SyncFolder();
  }
  if (absl::Status status = OpenComplete(*sidecar, verified); !status.ok()) return status;
  // Killed before the journal was removed, unless it is that of other tokens.
  if (complete_ && !*in_progress) unlink(journal_path_.c_str());
  if (extends_ && *in_progress) return InTheWay(partial_path_, absl::StrCat("this dump is complete in ", path_));
  return absl::OkStatus();
}

// Removes an empty file that a kill has left, together with this object. If that fails, it harms nobody.
void DumpFile::TakeLeftLock() {
  const absl::StatusOr<bool> there = Exists(lock_path_);
  if (!there.ok() || !*there) return;
  absl::StatusOr<std::unique_ptr<OpenFile>> lock = OpenFile::OpenLocked(lock_path_);
  if (!lock.ok()) return;
  const absl::StatusOr<std::uint64_t> size = (*lock)->Size();
  if (size.ok() && *size == 0) lock_ = *std::move(lock);
}

// DataLoss, unless another process has begun to extend the complete dump while this one read it without a lock.
absl::Status DumpFile::Damaged(const std::string& message) const {
  const absl::StatusOr<bool> described = Exists(sidecar_path_);
  const absl::StatusOr<bool> journalled = Exists(journal_path_);
  const bool as_before = described.ok() && *described && journalled.ok() && !*journalled;
  if (lock_ != nullptr || as_before) return absl::DataLossError(message);
  return absl::UnavailableError(absl::StrCat(path_, ": another process is writing this dump"));
}

absl::Status DumpFile::OpenComplete(const Sidecar& sidecar, const std::function<void(std::uint64_t)>& verified) {
  if (sidecar.sequences > identity_.sequences) {
    return MoreThanAsked(path_, sidecar.sequences, identity_.sequences);
  }
  const absl::StatusOr<bool> there = Exists(path_);
  if (!there.ok()) return there.status();
  if (!*there) {
    return Damaged(
        absl::StrCat(path_, " is gone, and ", sidecar_path_, " describes it; remove that too to make it again"));
  }
  absl::StatusOr<std::unique_ptr<OpenFile>> data = OpenFile::Open(path_, O_RDONLY);
  if (!data.ok()) return data.status();
  const bool extends = sidecar.sequences < identity_.sequences;
  Sha256 content;
  std::vector<std::byte> buffer(header_.size());
  absl::StatusOr<std::size_t> got = (*data)->Read(buffer);
  if (!got.ok()) return got.status();
  content.Update(std::span(buffer).first(*got));
  buffer.resize(std::min<std::uint64_t>(chunk_sequences_, sidecar.sequences) * sequence_bytes_);
  Sha256 chunk;
  if (extends) further_journal_ = IdentityLine();
  std::uint64_t size = 0;  // of the tokens
  do {
    got = (*data)->Read(buffer);
    if (!got.ok()) return got.status();
    const std::span<const std::byte> tokens = std::span(buffer).first(*got);
    content.Update(tokens);
    if (extends && !tokens.empty()) {
      chunk.Update(tokens);
      whole_.Update(tokens);
      further_journal_ += ToLine({.sha256 = chunk.Finish(), .sequences = *got / sequence_bytes_});
    }
    size += *got;
    verified(std::min<std::uint64_t>(size / sequence_bytes_, identity_.sequences));
  } while (*got == buffer.size());
  sha256_ = content.Finish();
  if (sidecar.sha256 != sha256_ || size != sidecar.sequences * sequence_bytes_) {
    return Damaged(absl::StrCat(path_, " does not match the checksum in ", sidecar_path_,
                                ": it was changed or damaged; remove both to make it again"));
  }
  sequences_ = sidecar.sequences;
  extends_ = extends;
  complete_ = !extends;
  return absl::OkStatus();
}

absl::Status DumpFile::OpenPartial(const std::function<void(std::uint64_t)>& verified) {
  absl::StatusOr<JournalReader> lines = JournalReader::Open(journal_path_, identity_);
  if (!lines.ok()) return lines.status();
  const absl::StatusOr<bool> named = Exists(path_);
  if (!named.ok()) return named.status();
  const absl::StatusOr<bool> in_progress = Exists(partial_path_);
  if (!in_progress.ok()) return in_progress.status();
  std::unique_ptr<OpenFile> data;
  if (!lines->torn() && (*named || *in_progress)) {
    absl::StatusOr<std::unique_ptr<OpenFile>> opened =
        *named ? OpenFile::Open(path_, O_RDONLY) : OpenFile::Open(partial_path_, O_RDWR);
    if (!opened.ok()) return opened.status();
    data = *std::move(opened);
    if (absl::Status status = ReadChunks(*lines, *data, verified); !status.ok()) return status;
  }
  if (*named) {
    if (data == nullptr) return InTheWay(path_, "nothing tells what it holds");
    return TakeUpNamed(*lines, *data);
  }
  if (sequences_ == 0) return absl::OkStatus();  // the files are made again
  return TakeUpPartial(*lines, std::move(data));
}

// Counts the sequences that the journal vouches for and that match it, and leaves `data` positioned after them.
absl::Status DumpFile::ReadChunks(JournalReader& lines, OpenFile& data,
                                  const std::function<void(std::uint64_t)>& verified) {
  std::vector<std::byte> buffer(header_.size());
  absl::StatusOr<std::size_t> got = data.Read(buffer);
  if (!got.ok()) return got.status();
  if (*got < buffer.size()) return absl::OkStatus();
  Sha256 hash;
  while (const std::optional<ChunkLine> chunk = lines.Next(sequences_, chunk_sequences_)) {
    buffer.resize(chunk->sequences * sequence_bytes_);
    got = data.Read(buffer);
    if (!got.ok()) return got.status();
    hash.Update(std::span(buffer).first(*got));
    if (*got < buffer.size() || hash.Finish() != chunk->sha256) break;
    lines.Accept();
    whole_.Update(buffer);
    sequences_ += chunk->sequences;
    if (sequences_ > identity_.sequences) return MoreThanAsked(data.path(), sequences_, identity_.sequences);
    verified(sequences_);
  }
  return absl::OkStatus();
}

// The tokens have their final name, but there is no sidecar. If the file is the one that the journal describes, the
// dump was killed at one of two points: between the naming of tokens and sidecar, or at the start of an extension.
absl::Status DumpFile::TakeUpNamed(const JournalReader& lines, OpenFile& data) {
  const absl::StatusOr<std::uint64_t> size = data.Size();
  if (!size.ok()) return size.status();
  DumpIdentity named = identity_;
  named.sequences = sequences_;
  const absl::StatusOr<bool> ours = data.StartsWith(named.Header());
  if (!ours.ok()) return ours.status();
  if (!*ours || !lines.at_end() || sequences_ == 0 || *size != FileBytes()) {
    return InTheWay(path_, absl::StrCat("it is not the dump that ", journal_path_, " describes"));
  }
  named_ = sequences_ == identity_.sequences;
  extends_ = !named_;
  if (extends_) {
    kept_journal_ = lines.size();
    further_journal_ = IdentityLine();
  }
  return absl::OkStatus();
}

absl::Status DumpFile::TakeUpPartial(const JournalReader& lines, std::unique_ptr<OpenFile> data) {
  absl::StatusOr<std::unique_ptr<OpenFile>> journal = OpenFile::Open(journal_path_, O_RDWR);
  if (!journal.ok()) return journal.status();
  data_ = std::move(data);
  journal_ = *std::move(journal);
  if (absl::Status status = data_->CutTo(FileBytes()); !status.ok()) return status;
  // An extension was killed before it wrote the header, or another number of sequences is asked for now.
  if (absl::Status status = data_->WriteAtStart(header_); !status.ok()) return status;
  if (absl::Status status = journal_->CutTo(lines.size()); !status.ok()) return status;
  if (lines.target() == identity_.sequences) return absl::OkStatus();
  if (absl::Status status = journal_->Write(IdentityLine()); !status.ok()) return status;
  return journal_->Sync();
}

absl::Status DumpFile::SyncFolder() const {
  const fs::path folder = fs::path(path_).parent_path();
  const auto names = OpenFile::Open(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  // File systems that do not support this keep their own order.
  if (names.ok()) (*names)->Sync().IgnoreError();
  return absl::OkStatus();
}

// The three steps that dump_file.h lists.
absl::Status DumpFile::BeginExtension() {
  // Opened first, so that a file without write permission keeps its name.
  absl::StatusOr<std::unique_ptr<OpenFile>> data = OpenFile::Open(path_, O_RDWR);
  if (!data.ok()) return data.status();
  absl::StatusOr<std::unique_ptr<OpenFile>> journal = OpenFile::Open(journal_path_, O_RDWR | O_CREAT);
  if (!journal.ok()) return journal.status();
  journal_ = *std::move(journal);
  for (const absl::Status& status :
       {journal_->CutTo(kept_journal_), journal_->Write(further_journal_), journal_->Sync(), SyncFolder()}) {
    if (!status.ok()) return status;
  }
  if (absl::Status status = RenameToFreeName(path_, partial_path_); !status.ok()) return status;
  if (absl::Status status = SyncFolder(); !status.ok()) return status;
  if (unlink(sidecar_path_.c_str()) != 0 && errno != ENOENT) return FileError(sidecar_path_, errno);
  if (absl::Status status = SyncFolder(); !status.ok()) return status;
  data_ = *std::move(data);
  extends_ = false;
  further_journal_.clear();
  if (absl::Status status = data_->WriteAtStart(header_); !status.ok()) return status;
  return data_->CutTo(FileBytes());
}

absl::Status DumpFile::CreateFiles() {
  absl::StatusOr<std::unique_ptr<OpenFile>> journal = OpenFile::Open(journal_path_, O_RDWR | O_CREAT);
  if (!journal.ok()) return journal.status();
  absl::StatusOr<std::unique_ptr<OpenFile>> data = OpenFile::Open(partial_path_, O_RDWR | O_CREAT);
  if (!data.ok()) return data.status();
  journal_ = *std::move(journal);
  data_ = *std::move(data);
  for (const absl::Status& status : {data_->CutTo(0), journal_->CutTo(0), data_->Write(header_), data_->Sync(),
                                     journal_->Write(IdentityLine()), journal_->Sync()}) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status DumpFile::Append(std::span<const std::byte> tokens) {
  const std::size_t chunk_bytes = chunk_sequences_ * sequence_bytes_;
  while (!tokens.empty()) {
    const std::size_t taken = std::min(tokens.size(), chunk_bytes - chunk_.size());
    chunk_.insert(chunk_.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(taken));
    tokens = tokens.subspan(taken);
    if (chunk_.size() == chunk_bytes || std::chrono::steady_clock::now() - committed_ >= commit_interval_) {
      if (absl::Status status = Commit(); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status DumpFile::Commit() {
  if (chunk_.empty()) return absl::OkStatus();
  if (data_ == nullptr) {
    if (absl::Status status = extends_ ? BeginExtension() : CreateFiles(); !status.ok()) return status;
  }
  Sha256 hash;
  hash.Update(chunk_);
  whole_.Update(chunk_);
  const std::uint64_t sequences = chunk_.size() / sequence_bytes_;
  // The order matters: first the tokens, then the line that vouches for them.
  if (absl::Status status = data_->Write(chunk_); !status.ok()) return status;
  if (absl::Status status = data_->Sync(); !status.ok()) return status;
  if (absl::Status status = journal_->Write(ToLine({hash.Finish(), sequences})); !status.ok()) return status;
  if (absl::Status status = journal_->Sync(); !status.ok()) return status;
  sequences_ += sequences;
  chunk_.clear();
  committed_ = std::chrono::steady_clock::now();
  commit_interval_ = std::min(2 * commit_interval_, kMaxCommitInterval);
  return absl::OkStatus();
}

absl::Status DumpFile::CommitAtStart() { return commit_interval_ < kMaxCommitInterval ? Commit() : absl::OkStatus(); }

absl::Status DumpFile::Finish() {
  if (absl::Status status = Commit(); !status.ok()) return status;
  if (sequences_ != identity_.sequences) {
    return absl::InternalError("a dump was finished before all sequences were there");
  }
  if (data_ != nullptr) {  // the header of a dump that is opened again
    if (absl::Status status = data_->Sync(); !status.ok()) return status;
  }
  sha256_ = whole_.Finish();
  Json sidecar = identity_.ToJson();
  sidecar["file"] = fs::path(path_).filename().string();
  sidecar["byte_order"] = "little";
  sidecar["data_offset"] = header_.size();
  sidecar["bytes"] = FileBytes();
  sidecar["sha256"] = sha256_;
  sidecar["iterand_version"] = ITERAND_VERSION;
  if (absl::Status status = lock_->CutTo(0); !status.ok()) return status;
  if (absl::Status status = lock_->Write(sidecar.dump(2) + "\n"); !status.ok()) return status;
  if (absl::Status status = lock_->Sync(); !status.ok()) return status;
  if (!named_) {
    if (absl::Status status = RenameToFreeName(partial_path_, path_); !status.ok()) return status;
    named_ = true;
  }
  if (absl::Status status = RenameToFreeName(lock_path_, sidecar_path_); !status.ok()) return status;
  // The new names first, so that after a crash of the machine every file is described by the journal or the sidecar.
  if (absl::Status status = SyncFolder(); !status.ok()) return status;
  unlink(journal_path_.c_str());  // one that stays costs one more check
  lock_.reset();
  complete_ = true;
  return absl::OkStatus();
}

}  // namespace iterand::cli
