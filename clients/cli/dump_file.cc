#include "clients/cli/dump_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "clients/cli/source.h"
#include "common/read_file.h"

namespace iterand::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kChunkBytes = std::size_t{8} << 20;
// After so long even less is made safe.
constexpr std::chrono::seconds kCommitInterval(10);
// A description has the recipe with all fields, which is larger than its file may be.
constexpr std::size_t kMaxSidecarBytes = std::size_t{64} << 20;
constexpr char kDumpVersion[] = "iterand dump 1";

std::string FormatName(DumpFormat format) { return format == DumpFormat::kBin ? "bin" : "npy"; }

// Header of a .npy file, version 1.0: magic, length of the text, a Python dict padded to a multiple of 64 bytes.
std::string NpyHeader(const DumpIdentity& identity) {
  const char* type = identity.dtype == Dtype::kUint8 ? "|u1" : identity.dtype == Dtype::kUint16 ? "<u2" : "<u4";
  std::string text = absl::StrCat("{'descr': '", type, "', 'fortran_order': False, 'shape': (", identity.sequences,
                                  ", ", identity.length, "), }");
  constexpr std::size_t kPrefix = 10;
  text.append(63 - (kPrefix + text.size()) % 64, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

// Refuses `found`, the description in `path`, unless it describes the dump that is asked for; names what differs.
absl::Status CheckSame(const std::string& path, const Json& found, const Json& wanted) {
  for (const auto& [key, value] : wanted.items()) {
    if (key == "recipe") continue;  // the fingerprint is of all of it that the tokens depend on
    const auto entry = found.find(key);
    if (entry != found.end() && *entry == value) continue;
    const std::string was = entry == found.end() ? "nothing" : entry->dump();
    return absl::AlreadyExistsError(absl::StrCat(path, " belongs to another dump (", key, " is ", was, " there and ",
                                                 value.dump(), " here); choose another --out or --name, or remove it"));
  }
  return absl::OkStatus();
}

absl::Status InTheWay(const std::string& path, const std::string& why) {
  return absl::AlreadyExistsError(
      absl::StrCat(path, " is in the way: ", why, "; choose another --out or --name, or remove it"));
}

// Whether `text` may be how the first line of a journal begins: it was cut before its end.
bool MayBeTornFirstLine(const std::string& text) {
  const std::string start = absl::StrCat(R"({"version":")", kDumpVersion, "\"");
  return absl::StartsWith(text, start) || absl::StartsWith(start, text);
}

// A line of the journal.
struct ChunkLine {
  std::string sha256;
  std::uint64_t sequences = 0;  // 0: the line does not tell
};

ChunkLine ParseChunkLine(const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  ChunkLine chunk{.sha256 = words[0]};
  if (words.size() != 2 || !absl::SimpleAtoi(words[1], &chunk.sequences)) chunk.sequences = 0;
  return chunk;
}

}  // namespace

Json DumpIdentity::ToJson() const {
  Json json;
  json["version"] = kDumpVersion;
  json["format"] = FormatName(format);
  if (mask) json["content"] = "mask: 1 where a token is to be predicted, else 0";
  json["engine_version"] = engine_version;
  json["seed"] = seed;
  json["dtype"] = DtypeName(dtype);
  json["shape"] = {sequences, length};
  json["start"] = start;
  json["shard"] = {{"rank", rank}, {"world", world}};
  json["fingerprint"] = fingerprint;
  json["vocab_size"] = vocab_size;
  json["recipe"] = recipe;
  return json;
}

DumpFile::DumpFile(const std::string& base, const DumpIdentity& identity)
    : path_(absl::StrCat(base, ".", FormatName(identity.format))),
      partial_path_(path_ + ".partial"),
      journal_path_(path_ + ".journal"),
      sidecar_path_(base + ".json"),
      lock_path_(sidecar_path_ + ".partial"),
      identity_(identity),
      header_(identity.format == DumpFormat::kNpy ? NpyHeader(identity) : ""),
      sequence_bytes_(static_cast<std::size_t>(identity.length) * DtypeBytes(identity.dtype)),
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
  if (absl::Status status = dump->Find(verified); !status.ok()) return status;
  return dump;
}

absl::Status DumpFile::Find(const std::function<void(std::uint64_t)>& verified) {
  absl::StatusOr<bool> described = Exists(sidecar_path_);
  if (!described.ok()) return described.status();
  absl::StatusOr<bool> journalled = Exists(journal_path_);
  if (!journalled.ok()) return journalled.status();
  // A complete dump is only read, so it may lie where nothing can be written.
  if (*described && !*journalled) return OpenComplete(verified);

  absl::StatusOr<std::unique_ptr<OpenFile>> lock = OpenFile::OpenLocked(lock_path_);
  if (!lock.ok()) return lock.status();
  // From here on no other process changes what is there; it may have done so just now.
  described = Exists(sidecar_path_);
  if (!described.ok()) return described.status();
  journalled = Exists(journal_path_);
  if (!journalled.ok()) return journalled.status();
  // What a kill has left in the file that is locked has a journal beside it.
  const absl::StatusOr<std::uint64_t> size = (*lock)->Size();
  if (!size.ok()) return size.status();
  if (*size > 0 && !*journalled) return InTheWay(lock_path_, "nothing tells what it holds");
  lock_ = *std::move(lock);
  if (!*described) return OpenPartial(*journalled, verified);
  if (absl::Status status = OpenComplete(verified); !status.ok()) return status;
  // Killed before the journal was removed, unless it is that of other tokens.
  const absl::StatusOr<bool> under_way = Exists(partial_path_);
  if (under_way.ok() && !*under_way) unlink(journal_path_.c_str());
  return absl::OkStatus();
}

absl::Status DumpFile::OpenComplete(const std::function<void(std::uint64_t)>& verified) {
  const absl::StatusOr<std::string> text = ReadFile(sidecar_path_, kMaxSidecarBytes);
  if (!text.ok()) return text.status();
  const Json sidecar = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!sidecar.is_object()) return InTheWay(sidecar_path_, "it is not the description of a dump");
  if (absl::Status same = CheckSame(sidecar_path_, sidecar, identity_.ToJson()); !same.ok()) return same;
  const absl::StatusOr<bool> there = Exists(path_);
  if (!there.ok()) return there.status();
  if (!*there) {
    return absl::DataLossError(
        absl::StrCat(path_, " is gone, and ", sidecar_path_, " describes it; remove that too to make it again"));
  }
  absl::StatusOr<std::unique_ptr<OpenFile>> data = OpenFile::Open(path_, O_RDONLY);
  if (!data.ok()) return data.status();
  std::vector<std::byte> buffer(chunk_sequences_ * sequence_bytes_);
  Sha256 content;
  std::uint64_t size = 0;
  for (;;) {
    absl::StatusOr<std::size_t> got = (*data)->Read(buffer);
    if (!got.ok()) return got.status();
    content.Update(std::span(buffer).first(*got));
    size += *got;
    verified(std::min<std::uint64_t>(size / sequence_bytes_, identity_.sequences));
    if (*got < buffer.size()) break;
  }
  sha256_ = content.Finish();
  const auto wanted = sidecar.find("sha256");
  if (wanted == sidecar.end() || *wanted != sha256_) {
    return absl::DataLossError(absl::StrCat(path_, " does not match the checksum in ", sidecar_path_,
                                            ": it was changed or damaged; remove both to make it again"));
  }
  sequences_ = identity_.sequences;
  complete_ = true;
  return absl::OkStatus();
}

absl::Status DumpFile::OpenPartial(bool journalled, const std::function<void(std::uint64_t)>& verified) {
  const absl::StatusOr<bool> named = Exists(path_);
  if (!named.ok()) return named.status();
  const absl::StatusOr<bool> under_way = Exists(partial_path_);
  if (!under_way.ok()) return under_way.status();
  if (!journalled) {
    for (const auto& [there, path] : {std::pair(*named, &path_), std::pair(*under_way, &partial_path_)}) {
      if (there) return InTheWay(*path, "nothing tells what it holds");
    }
    return absl::OkStatus();
  }
  if (*named && *under_way) return InTheWay(path_, absl::StrCat("this dump is under way in ", partial_path_));

  absl::StatusOr<std::unique_ptr<OpenFile>> journal = OpenFile::Open(journal_path_, O_RDWR);
  if (!journal.ok()) return journal.status();
  std::ifstream lines(journal_path_, std::ios::binary);
  std::string line;
  std::unique_ptr<OpenFile> data;
  std::uint64_t journal_size = 0;
  std::uint64_t data_size = header_.size();
  // A torn first line, which can only come from a kill at the very start, has no newline; nothing hangs on it.
  if (!std::getline(lines, line) || lines.eof()) {
    if (!MayBeTornFirstLine(line)) return InTheWay(journal_path_, "it is not the journal of a dump");
  } else {
    const Json found = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!found.is_object()) return InTheWay(journal_path_, "it is not the journal of a dump");
    if (absl::Status same = CheckSame(journal_path_, found, identity_.ToJson()); !same.ok()) return same;
    journal_size = line.size() + 1;
    if (*named || *under_way) {
      absl::StatusOr<std::unique_ptr<OpenFile>> opened =
          *named ? OpenFile::Open(path_, O_RDONLY) : OpenFile::Open(partial_path_, O_RDWR);
      if (!opened.ok()) return opened.status();
      data = *std::move(opened);
    }
  }
  if (data != nullptr) {
    std::string start(header_.size(), '\0');
    absl::StatusOr<std::size_t> got = data->Read(std::as_writable_bytes(std::span(start)));
    if (!got.ok()) return got.status();
    std::vector<std::byte> buffer;
    Sha256 hash;
    while (start == header_ && sequences_ < identity_.sequences && std::getline(lines, line) && !lines.eof()) {
      const std::uint64_t most = std::min<std::uint64_t>(chunk_sequences_, identity_.sequences - sequences_);
      ChunkLine wanted = ParseChunkLine(line);
      if (wanted.sequences == 0) wanted.sequences = most;
      if (wanted.sequences > most) break;
      buffer.resize(wanted.sequences * sequence_bytes_);
      got = data->Read(buffer);
      if (!got.ok()) return got.status();
      hash.Update(std::span(buffer).first(*got));
      if (*got < buffer.size() || hash.Finish() != wanted.sha256) break;
      whole_.Update(buffer);
      sequences_ += wanted.sequences;
      data_size += buffer.size();
      journal_size += line.size() + 1;
      verified(sequences_);
    }
  }
  if (*named) {
    // Killed between giving the file its name and removing the journal, if it is that file.
    const absl::StatusOr<std::uint64_t> size = data != nullptr ? data->Size() : 0;
    if (!size.ok()) return size.status();
    if (sequences_ < identity_.sequences || *size != data_size) {
      return InTheWay(path_, absl::StrCat("it is not the dump that ", journal_path_, " tells of"));
    }
    named_ = true;
    return absl::OkStatus();
  }
  if (sequences_ == 0) return absl::OkStatus();
  data_ = std::move(data);
  journal_ = *std::move(journal);
  if (absl::Status status = data_->CutTo(data_size); !status.ok()) return status;
  return journal_->CutTo(journal_size);
}

absl::Status DumpFile::CreateFiles() {
  absl::StatusOr<std::unique_ptr<OpenFile>> journal = OpenFile::Open(journal_path_, O_RDWR | O_CREAT);
  if (!journal.ok()) return journal.status();
  absl::StatusOr<std::unique_ptr<OpenFile>> data = OpenFile::Open(partial_path_, O_RDWR | O_CREAT);
  if (!data.ok()) return data.status();
  journal_ = *std::move(journal);
  data_ = *std::move(data);
  for (const absl::Status& status : {data_->CutTo(0), journal_->CutTo(0), data_->Write(header_), data_->Sync(),
                                     journal_->Write(identity_.ToJson().dump() + "\n"), journal_->Sync()}) {
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
    if (chunk_.size() == chunk_bytes || std::chrono::steady_clock::now() - committed_ >= kCommitInterval) {
      if (absl::Status status = Commit(); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status DumpFile::Commit() {
  if (chunk_.empty()) return absl::OkStatus();
  if (data_ == nullptr) {
    if (absl::Status status = CreateFiles(); !status.ok()) return status;
  }
  Sha256 hash;
  hash.Update(chunk_);
  whole_.Update(chunk_);
  const std::uint64_t sequences = chunk_.size() / sequence_bytes_;
  // The order is the point: first the tokens, then the line that vouches for them.
  if (absl::Status status = data_->Write(chunk_); !status.ok()) return status;
  if (absl::Status status = data_->Sync(); !status.ok()) return status;
  if (absl::Status status = journal_->Write(absl::StrCat(hash.Finish(), " ", sequences, "\n")); !status.ok()) {
    return status;
  }
  if (absl::Status status = journal_->Sync(); !status.ok()) return status;
  sequences_ += sequences;
  chunk_.clear();
  committed_ = std::chrono::steady_clock::now();
  return absl::OkStatus();
}

absl::Status DumpFile::Finish() {
  if (absl::Status status = Commit(); !status.ok()) return status;
  if (sequences_ != identity_.sequences)
    return absl::InternalError("a dump was finished before all sequences were there");
  sha256_ = whole_.Finish();
  Json sidecar = identity_.ToJson();
  sidecar["file"] = fs::path(path_).filename().string();
  sidecar["byte_order"] = "little";
  sidecar["data_offset"] = header_.size();
  sidecar["bytes"] = header_.size() + sequences_ * sequence_bytes_;
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
  // The new names first, so that after a crash of the machine no file is there that neither journal nor sidecar tells
  // of. File systems that cannot do that keep their own order.
  const fs::path folder = fs::path(path_).parent_path();
  const auto names = OpenFile::Open(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  if (names.ok()) (*names)->Sync().IgnoreError();
  unlink(journal_path_.c_str());  // one that stays costs one more check
  lock_.reset();
  complete_ = true;
  return absl::OkStatus();
}

}  // namespace iterand::cli
