#include "clients/cli/dump_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/cli/sha256.h"
#include "clients/cli/source.h"

namespace iterand::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kChunkBytes = std::size_t{8} << 20;
constexpr char kDumpVersion[] = "iterand dump 1";

absl::Status FileError(const std::string& path, int error) {
  return absl::InternalError(absl::StrCat(path, ": ", std::strerror(error)));
}

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

absl::StatusOr<Json> ReadJson(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " is not the description of a dump; choose another --out or --name"));
  }
  return json;
}

// Refuses `found`, the description in `path`, unless it describes the dump that is asked for; names what differs.
absl::Status CheckSame(const std::string& path, const Json& found, const Json& wanted) {
  for (const auto& [key, value] : wanted.items()) {
    const auto entry = found.find(key);
    if (entry != found.end() && *entry == value) continue;
    std::string was = entry == found.end() ? "nothing" : entry->dump();
    std::string now = value.dump();
    // A recipe is pages long: its fingerprint, which comes first, tells enough.
    if (was.size() + now.size() > 200) was = now = "...";
    return absl::AlreadyExistsError(absl::StrCat(path, " belongs to another dump (", key, " is ", was, " there and ",
                                                 now, " here); choose another --out or --name, or remove it"));
  }
  return absl::OkStatus();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) return FileError(to, errno);
  return absl::OkStatus();
}

}  // namespace

// An open file; reads and writes are whole or an error.
class DumpFile::Descriptor {
 public:
  static absl::StatusOr<std::unique_ptr<Descriptor>> Open(const std::string& path, int flags) {
    const int file = open(path.c_str(), flags | O_CLOEXEC, 0644);
    if (file < 0) return FileError(path, errno);
    return std::unique_ptr<Descriptor>(new Descriptor(path, file));
  }
  ~Descriptor() { close(file_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  // Reads up to bytes.size() bytes, fewer only at the file's end.
  absl::StatusOr<std::size_t> Read(std::span<std::byte> bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t got = read(file_, bytes.data() + done, bytes.size() - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return FileError(path_, errno);
      if (got == 0) break;
      done += got;
    }
    return done;
  }
  absl::Status Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t put = write(file_, bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return FileError(path_, errno);
      bytes = bytes.subspan(put);
    }
    return absl::OkStatus();
  }
  absl::Status Write(std::string_view text) { return Write(std::as_bytes(std::span(text))); }
  absl::Status Sync() {
    if (fdatasync(file_) != 0) return FileError(path_, errno);
    return absl::OkStatus();
  }
  // Cuts the file to `size` bytes and goes to its end.
  absl::Status CutTo(std::uint64_t size) {
    if (ftruncate(file_, static_cast<off_t>(size)) != 0) return FileError(path_, errno);
    if (lseek(file_, 0, SEEK_END) < 0) return FileError(path_, errno);
    return absl::OkStatus();
  }
  bool Lock() { return flock(file_, LOCK_EX | LOCK_NB) == 0; }

 private:
  Descriptor(std::string path, int file) : path_(std::move(path)), file_(file) {}
  std::string path_;
  int file_;
};

struct DumpFile::Hashes {
  Sha256 whole;
  Sha256 chunk;
};

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

DumpFile::DumpFile(std::string path, std::string sidecar, const DumpIdentity& identity)
    : path_(std::move(path)),
      sidecar_path_(std::move(sidecar)),
      identity_(identity),
      header_(identity.format == DumpFormat::kNpy ? NpyHeader(identity) : ""),
      sequence_bytes_(static_cast<std::size_t>(identity.length) * DtypeBytes(identity.dtype)),
      chunk_bytes_(std::max<std::size_t>(1, kChunkBytes / sequence_bytes_) * sequence_bytes_),
      hashes_(std::make_unique<Hashes>()) {}

DumpFile::~DumpFile() = default;

absl::StatusOr<std::unique_ptr<DumpFile>> DumpFile::Open(const std::string& folder, const std::string& name,
                                                         const DumpIdentity& identity,
                                                         const std::function<void(std::uint64_t)>& verified) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return absl::InternalError(absl::StrCat("--out ", folder, ": ", error.message()));
  const std::string base = (fs::path(folder) / name).string();
  const std::string path = absl::StrCat(base, ".", FormatName(identity.format));
  std::unique_ptr<DumpFile> dump(new DumpFile(path, base + ".json", identity));

  // Also beside a journal: a dump of the same name but another format may have been finished meanwhile.
  const bool described = fs::exists(dump->sidecar_path_);
  if (described) {
    absl::StatusOr<Json> sidecar = ReadJson(dump->sidecar_path_);
    if (!sidecar.ok()) return sidecar.status();
    if (absl::Status same = CheckSame(dump->sidecar_path_, *sidecar, identity.ToJson()); !same.ok()) return same;
  }
  // A journal that is still there means that the dump was not finished, even if the file has its name already.
  if (!fs::exists(path + ".journal")) {
    if (described) {
      if (absl::Status status = dump->OpenComplete(verified); !status.ok()) return status;
      return dump;
    }
    for (const std::string& foreign : {path, path + ".partial"}) {
      if (fs::exists(foreign)) {
        return absl::AlreadyExistsError(absl::StrCat(
            foreign, " is in the way: nothing tells what it holds; choose another --out or --name, or remove it"));
      }
    }
  }
  if (absl::Status status = dump->OpenPartial(verified); !status.ok()) return status;
  return dump;
}

absl::Status DumpFile::OpenComplete(const std::function<void(std::uint64_t)>& verified) {
  absl::StatusOr<Json> sidecar = ReadJson(sidecar_path_);
  if (!sidecar.ok()) return sidecar.status();
  if (!fs::exists(path_)) {
    return absl::DataLossError(
        absl::StrCat(path_, " is gone, and ", sidecar_path_, " describes it; remove that too to make it again"));
  }
  absl::StatusOr<std::unique_ptr<Descriptor>> data = Descriptor::Open(path_, O_RDONLY);
  if (!data.ok()) return data.status();
  std::vector<std::byte> buffer(chunk_bytes_);
  std::uint64_t size = 0;
  for (;;) {
    absl::StatusOr<std::size_t> got = (*data)->Read(buffer);
    if (!got.ok()) return got.status();
    hashes_->whole.Update(std::span(buffer).first(*got));
    size += *got;
    verified(std::min<std::uint64_t>(size / sequence_bytes_, identity_.sequences));
    if (*got < buffer.size()) break;
  }
  sha256_ = hashes_->whole.Finish();
  if (sidecar->value("sha256", "") != sha256_) {
    return absl::DataLossError(absl::StrCat(path_, " does not match the checksum in ", sidecar_path_,
                                            ": it was changed or damaged; remove both to make it again"));
  }
  sequences_ = identity_.sequences;
  complete_ = true;
  return absl::OkStatus();
}

absl::Status DumpFile::OpenPartial(const std::function<void(std::uint64_t)>& verified) {
  const std::string partial = path_ + ".partial";
  const std::string journal_path = path_ + ".journal";
  absl::StatusOr<std::unique_ptr<Descriptor>> journal = Descriptor::Open(journal_path, O_RDWR | O_CREAT);
  if (!journal.ok()) return journal.status();
  journal_ = *std::move(journal);
  if (!journal_->Lock())
    return absl::UnavailableError(absl::StrCat(journal_path, ": another process is writing this dump"));

  // Killed between giving the file its name and removing the journal: go back one step and check all again.
  if (fs::exists(path_) && !fs::exists(partial)) {
    if (absl::Status status = Rename(path_, partial); !status.ok()) return status;
  }
  absl::StatusOr<std::unique_ptr<Descriptor>> data = Descriptor::Open(partial, O_RDWR | O_CREAT);
  if (!data.ok()) return data.status();
  data_ = *std::move(data);

  const std::string first_line = identity_.ToJson().dump() + "\n";
  std::ifstream lines(journal_path, std::ios::binary);
  std::string line;
  std::uint64_t journal_size = 0;
  std::uint64_t data_size = header_.size();
  // A torn first line, which can only come from a kill at the very start, has no newline; nothing hangs on it.
  if (std::getline(lines, line) && !lines.eof()) {
    const Json found = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (found.is_discarded())
      return absl::AlreadyExistsError(absl::StrCat(journal_path, " is not the journal of a dump"));
    if (absl::Status same = CheckSame(journal_path, found, identity_.ToJson()); !same.ok()) return same;
    journal_size = line.size() + 1;
    std::vector<std::byte> buffer(std::max(chunk_bytes_, header_.size()));
    absl::StatusOr<std::size_t> got = data_->Read(std::span(buffer).first(header_.size()));
    if (!got.ok()) return got.status();
    const bool header_is_good =
        *got == header_.size() && std::memcmp(buffer.data(), header_.data(), header_.size()) == 0;
    while (header_is_good && sequences_ < identity_.sequences && std::getline(lines, line) && !lines.eof()) {
      const std::uint64_t left = identity_.sequences - sequences_;
      const std::size_t size = std::min<std::uint64_t>(chunk_bytes_, left * sequence_bytes_);
      const std::span<std::byte> chunk = std::span(buffer).first(size);
      got = data_->Read(chunk);
      if (!got.ok()) return got.status();
      hashes_->chunk.Update(chunk.first(*got));
      const std::string hash = hashes_->chunk.Finish();  // even of a part of it: the next chunk's begins anew
      if (*got < size || hash != line) break;
      if (sequences_ == 0) hashes_->whole.Update(std::as_bytes(std::span(header_)));
      hashes_->whole.Update(chunk);
      sequences_ += size / sequence_bytes_;
      data_size += size;
      journal_size += line.size() + 1;
      verified(sequences_);
    }
  }
  if (sequences_ > 0) {
    if (absl::Status status = data_->CutTo(data_size); !status.ok()) return status;
    return journal_->CutTo(journal_size);
  }
  for (const absl::Status& status : {data_->CutTo(0), journal_->CutTo(0), data_->Write(header_), data_->Sync(),
                                     journal_->Write(first_line), journal_->Sync()}) {
    if (!status.ok()) return status;
  }
  hashes_->whole.Finish();
  hashes_->whole.Update(std::as_bytes(std::span(header_)));
  return absl::OkStatus();
}

absl::Status DumpFile::Append(std::span<const std::byte> tokens) {
  while (!tokens.empty()) {
    const std::size_t taken = std::min(tokens.size(), chunk_bytes_ - chunk_.size());
    chunk_.insert(chunk_.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(taken));
    tokens = tokens.subspan(taken);
    if (chunk_.size() == chunk_bytes_) {
      if (absl::Status status = CommitChunk(); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status DumpFile::CommitChunk() {
  if (chunk_.empty()) return absl::OkStatus();
  hashes_->whole.Update(chunk_);
  hashes_->chunk.Update(chunk_);
  const std::string line = hashes_->chunk.Finish() + "\n";
  // The order is the point: first the tokens, then the line that vouches for them.
  if (absl::Status status = data_->Write(chunk_); !status.ok()) return status;
  if (absl::Status status = data_->Sync(); !status.ok()) return status;
  if (absl::Status status = journal_->Write(line); !status.ok()) return status;
  if (absl::Status status = journal_->Sync(); !status.ok()) return status;
  sequences_ += chunk_.size() / sequence_bytes_;
  chunk_.clear();
  return absl::OkStatus();
}

absl::Status DumpFile::Finish() {
  if (absl::Status status = CommitChunk(); !status.ok()) return status;
  if (sequences_ != identity_.sequences)
    return absl::InternalError("a dump was finished before all sequences were there");
  sha256_ = hashes_->whole.Finish();
  Json sidecar = identity_.ToJson();
  sidecar["file"] = fs::path(path_).filename().string();
  sidecar["byte_order"] = "little";
  sidecar["data_offset"] = header_.size();
  sidecar["bytes"] = header_.size() + sequences_ * sequence_bytes_;
  sidecar["sha256"] = sha256_;
  sidecar["iterand_version"] = ITERAND_VERSION;
  const std::string temporary = sidecar_path_ + ".partial";
  absl::StatusOr<std::unique_ptr<Descriptor>> file = Descriptor::Open(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file.ok()) return file.status();
  if (absl::Status status = (*file)->Write(sidecar.dump(2) + "\n"); !status.ok()) return status;
  if (absl::Status status = (*file)->Sync(); !status.ok()) return status;
  if (absl::Status status = Rename(path_ + ".partial", path_); !status.ok()) return status;
  if (absl::Status status = Rename(temporary, sidecar_path_); !status.ok()) return status;
  std::error_code ignored;  // a journal that stays costs one more check
  fs::remove(path_ + ".journal", ignored);
  complete_ = true;
  return absl::OkStatus();
}

}  // namespace iterand::cli
