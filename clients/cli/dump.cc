// iterand dump: sequences as a token file for trainers that read from disk.

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/dump_file.h"
#include "clients/cli/output.h"
#include "clients/cli/progress.h"
#include "clients/cli/second_signal.h"
#include "clients/cli/sequence_source.h"
#include "common/printable.h"
#include "iterate/snapshots.h"

namespace iterand::cli {
namespace {

namespace fs = std::filesystem;

struct DumpOptions {
  StreamChoice stream;
  RangeChoice range;
  ServerChoice server;
  int threads = 0;
  std::string out;
  std::string name = "tokens";
  std::string format = "bin";
};

// Pools that a complete dump keeps, so that it can be extended without a replay. The last may be beyond its end.
constexpr std::size_t kKeptSnapshots = 2;

// The longest suffix of a dump's files.
constexpr std::string_view kLongestSuffix = ".loss_mask.json.partial";

SecondSignal signals;

// Replaces the progress bar.
constexpr std::string_view kStopping =
    "\r\033[Kiterand: stopping after this batch; a second signal ends it at once, without this batch\n";
constexpr std::size_t kClearLine = 4;  // bytes of it, for terminals only

// A second signal ends the process at once, in case the batch takes long: what is journalled is safe.
void StopAfterThisBatch(int signal) {
  const int error = errno;
  const SecondSignal::Kind kind = signals.Note();
  if (kind == SecondSignal::Kind::kFirst) {
    const std::string_view words = isatty(STDERR_FILENO) == 1 ? kStopping : kStopping.substr(kClearLine);
    if (write(STDERR_FILENO, words.data(), words.size()) < 0) {
      // Nothing can be reported.
    }
  } else if (kind == SecondSignal::Kind::kSecond) {
    std::signal(signal, SIG_DFL);
    raise(signal);
  }
  errno = error;
}

// The folder of a dump. Folders that it created are removed again if they stay empty.
class DumpFolder {
 public:
  static absl::StatusOr<DumpFolder> Make(const std::string& path) {
    DumpFolder folder;
    std::error_code error;
    for (fs::path missing = path; !missing.empty() && !fs::exists(missing, error); missing = missing.parent_path()) {
      folder.made_.push_back(missing);
    }
    fs::create_directories(path, error);
    if (error) return absl::InternalError(absl::StrCat("--out ", path, ": ", error.message()));
    return folder;
  }
  ~DumpFolder() {
    std::error_code ignored;
    for (const fs::path& folder : made_) fs::remove(folder, ignored);  // fails for one that is not empty
  }
  DumpFolder(DumpFolder&&) = default;
  DumpFolder& operator=(DumpFolder&&) = default;

 private:
  DumpFolder() = default;
  std::vector<fs::path> made_;  // the innermost first
};

std::string Size(double bytes) {
  for (const auto& [unit, name] : {std::pair{0x1p40, "TiB"}, std::pair{0x1p30, "GiB"}, std::pair{0x1p20, "MiB"}}) {
    if (bytes >= unit) return absl::StrFormat("%.1f %s", bytes / unit, name);
  }
  return absl::StrFormat("%.1f KiB", bytes / 0x1p10);
}

absl::Status CheckSpace(const std::string& folder, double bytes) {
  struct statvfs found {};
  // A file system without a known size fails when it is full.
  if (statvfs(folder.c_str(), &found) != 0 || found.f_blocks == 0) return absl::OkStatus();
  const double free = static_cast<double>(found.f_bavail) * static_cast<double>(found.f_frsize);
  if (bytes <= free) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("--out ", folder, " has ", Size(free),
                                                   " of free space, and this dump needs ", Size(bytes),
                                                   "; choose a folder on another disk, or a smaller --count"));
}

absl::StatusOr<DumpIdentity> MakeIdentity(const DumpOptions& options, const StreamFacts& facts) {
  DumpIdentity identity;
  identity.format = options.format == "bin" ? DumpFormat::kBin : DumpFormat::kNpy;
  identity.dtype = facts.dtype;
  if (identity.format == DumpFormat::kBin) {
    if (identity.dtype == Dtype::kUint32) {
      return absl::InvalidArgumentError(absl::StrCat("--format bin holds uint16 tokens, and this recipe's vocab_size ",
                                                     facts.info.recipe().vocab_size(),
                                                     " exceeds 65536; --format npy can hold it"));
    }
    identity.dtype = Dtype::kUint16;
  }
  identity.sequences = options.range.count;
  identity.length = static_cast<int>(facts.info.recipe().length());
  identity.start = options.range.start;
  identity.rank = options.range.rank;
  identity.world_size = options.range.world_size;
  identity.seed = facts.info.seed();
  identity.vocab_size = facts.info.recipe().vocab_size();
  identity.fingerprint = absl::BytesToHexString(facts.info.fingerprint());
  identity.engine_version = facts.engine_version;
  identity.recipe = nlohmann::ordered_json::parse(facts.info.recipe_json());
  return identity;
}

// uint8 tokens as uint16.
std::span<const std::byte> Widen(std::span<const std::byte> tokens, std::vector<std::uint16_t>& wide) {
  wide.resize(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) wide[i] = static_cast<std::uint8_t>(tokens[i]);
  return std::as_bytes(std::span(wide));
}

// One file of a dump, and how much of it existed at the start.
struct DumpPart {
  std::unique_ptr<DumpFile> file;
  std::size_t sequence_bytes = 0;
  std::uint64_t there = 0;

  // Adds those of some rows that the file lacks; the first of them is sequence `first` of the dump.
  absl::Status Append(std::span<const std::byte> rows, std::uint64_t first) const {
    const std::uint64_t known = there > first ? (there - first) * sequence_bytes : 0;
    return known < rows.size() ? file->Append(rows.subspan(known)) : absl::OkStatus();
  }
};

// An error that ends a dump early, with what is kept.
absl::Status WithSafePart(const absl::Status& status, const std::vector<DumpPart>& parts) {
  std::uint64_t safe = parts.front().file->sequences();
  for (const DumpPart& part : parts) safe = std::min(safe, part.file->sequences());
  if (status.ok() || safe == 0) return status;
  return absl::Status(status.code(), absl::StrCat(status.message(), "; ", safe,
                                                  " sequences are safe, and the same command continues after them"));
}

// Adds all that the source gives; `done` sequences are in all parts. When the source fails or the user interrupts,
// everything before that is made safe.
absl::Status Generate(SequenceSource& source, Dtype file_dtype, std::uint64_t done, const std::vector<DumpPart>& parts,
                      Progress& progress) {
  const bool widen = source.facts().dtype == Dtype::kUint8 && file_dtype == Dtype::kUint16;
  absl::Status end;
  RowBatch batch;
  std::vector<std::uint16_t> wide;
  for (;;) {
    if (signals.any()) {
      end = absl::CancelledError("interrupted");
      break;
    }
    if (!source.Next(batch)) {
      end = source.status();
      break;
    }
    absl::Status status = parts[0].Append(widen ? Widen(batch.tokens, wide) : batch.tokens, done);
    if (status.ok() && parts.size() > 1) status = parts[1].Append(batch.loss_mask, done);
    for (const DumpPart& part : parts) {
      if (status.ok() && batch.pause_follows) status = part.file->CommitAtStart();
    }
    if (!status.ok()) return status;
    done += batch.rows;
    progress.Update(done);
  }
  for (const DumpPart& part : parts) {
    if (absl::Status status = part.file->Commit(); !status.ok()) return status;
  }
  return end;
}

// Where an endless pool is kept, so that a dump that is continued or extended need not replay it.
SnapshotFolder Snapshots(const DumpOptions& options) {
  SnapshotFolder folder;
  folder.path = fs::path(options.out) / (options.name + ".snapshots");
  return folder;
}

// Generates what the parts lack, and gives their files their names.
absl::Status Complete(const DumpOptions& options, const DumpIdentity& identity, const std::string& fingerprint,
                      const std::vector<DumpPart>& parts, Progress& progress) {
  std::uint64_t there = identity.sequences;  // in all parts
  for (const DumpPart& part : parts) there = std::min(there, part.there);
  progress.Clear();
  if (there > 0) {
    std::fprintf(stderr, "iterand: continuing after %llu sequences that match their checksums\n",
                 static_cast<unsigned long long>(there));
  }
  if (there < identity.sequences) {
    RangeChoice range = options.range;
    range.start += there * identity.world_size;
    range.count -= there;
    auto snapshots = std::make_shared<SnapshotFolder>(Snapshots(options));
    snapshots->report = [&progress](const std::string& line) {  // while Generate waits for sequences
      progress.Clear();
      std::fprintf(stderr, "iterand: %s\n", Printable(line).c_str());
    };
    const absl::StatusOr<std::unique_ptr<SequenceSource>> source = SequenceSource::Open(
        options.stream, range, options.server, {.threads = options.threads, .snapshots = std::move(snapshots)});
    if (!source.ok()) return source.status();
    if ((*source)->facts().info.fingerprint() != fingerprint) {
      return absl::FailedPreconditionError("the server changed while the dump began; run the command again");
    }
    for (const int which : {SIGINT, SIGTERM}) std::signal(which, StopAfterThisBatch);
    progress.Restart(there);
    if (absl::Status status = Generate(**source, identity.dtype, there, parts, progress); !status.ok()) return status;
  }
  for (const DumpPart& part : parts) {
    if (part.file->complete()) continue;
    if (absl::Status status = part.file->Finish(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Dump(const DumpOptions& options) {
  const absl::StatusOr<StreamFacts> facts = DescribeStream(options.stream, options.server);
  if (!facts.ok()) return facts.status();
  const absl::StatusOr<DumpIdentity> identity = MakeIdentity(options, *facts);
  if (!identity.ok()) return identity.status();
  const absl::StatusOr<DumpFolder> folder = DumpFolder::Make(options.out);  // goes after the files in it
  if (!folder.ok()) return folder.status();

  // The file of the tokens and, if the recipe or the user asks for it, that of the loss mask.
  std::vector<DumpPart> parts(facts->info.recipe().loss_mask() ? 2 : 1);
  Progress progress(0, identity->sequences, identity->length);
  double missing_bytes = 0;
  for (DumpPart& part : parts) {
    DumpIdentity content = *identity;
    content.loss_mask = &part != parts.data();
    if (content.loss_mask) content.dtype = Dtype::kUint8;
    absl::StatusOr<std::unique_ptr<DumpFile>> file =
        DumpFile::Open(options.out, content.loss_mask ? options.name + ".loss_mask" : options.name, content,
                       [&](std::uint64_t verified) { progress.Update(verified); });
    if (!file.ok()) return file.status();
    part = {*std::move(file), DtypeBytes(content.dtype) * static_cast<std::size_t>(content.length)};
    part.there = part.file->sequences();
    missing_bytes += part.file->missing_bytes();
  }
  absl::Status status;
  if (std::ranges::all_of(parts, [](const DumpPart& part) { return part.file->complete(); })) {
    progress.Clear();
    std::fprintf(stderr, "iterand: nothing to do: the dump is complete and matches its checksum\n");
  } else {
    status = CheckSpace(options.out, missing_bytes);
    if (status.ok()) status = Complete(options, *identity, facts->info.fingerprint(), parts, progress);
  }
  progress.Clear();
  if (!status.ok()) return WithSafePart(status, parts);
  Snapshots(options).Clear(identity->fingerprint, kKeptSnapshots);
  for (const DumpPart& part : parts) {
    const bool is_mask = &part != parts.data();
    status = WriteOutput(absl::StrCat(part.file->path(), ": ", identity->sequences, " sequences x ", identity->length,
                                      is_mask ? " bytes of loss mask" : " tokens", ", ",
                                      DtypeName(is_mask ? Dtype::kUint8 : identity->dtype), ", sha256 ",
                                      part.file->sha256(), "\n"));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Why files cannot have this name, or nothing.
std::string CheckName(const std::string& name) {
  if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos) {
    return absl::StrCat("must be a file name without folder, not '", name, "'");
  }
  if (name.size() + kLongestSuffix.size() > NAME_MAX) {
    return absl::StrCat("a name of ", name.size(), " bytes is too long: at most ", NAME_MAX - kLongestSuffix.size(),
                        " leave room for what follows it");
  }
  // The sidecar is JSON, which cannot hold other bytes.
  const nlohmann::json text(name);
  if (nlohmann::json::parse(text.dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore)) != text) {
    return "must be a name in UTF-8";
  }
  return "";
}

}  // namespace

void AddDump(CLI::App& app, Action& action) {
  auto options = std::make_shared<DumpOptions>();
  CLI::App* command = app.add_subcommand("dump", "Write sequences to a token file with a description beside it");
  command->footer(
      R"(Writes DIR/NAME.bin or DIR/NAME.npy, and DIR/NAME.json with recipe, seed, fingerprint, shape and SHA-256.
bin is uint16 tokens alone, row after row, as nanoGPT-style trainers memory-map them. npy is a NumPy array of the
stream's own dtype. The file gets its name when it is complete.
Ctrl-C and SIGTERM keep all batches except the one in progress, and exit with status 130.
The same command continues, also after a kill, after the last part of the file that matches its checksum.
With a larger --count it extends a complete dump: until that is complete again, the file is DIR/NAME.bin.partial.
DIR/NAME.snapshots has the rows of an endless pool such as up-paper, to continue without a replay;
it may be deleted.
A file of another stream, or one without a description, is never overwritten.)");
  options->stream.AddTo(*command, /*positional=*/false);
  options->range.AddTo(*command);
  command->add_option("--count", options->range.count, "How many sequences")
      ->type_name("N")
      ->required()
      ->check(WholeNumber(1, std::uint64_t{1} << 48));
  command->add_option("--out", options->out, "Folder; created if it is missing")
      ->type_name("DIR")
      ->required()
      ->check([](const std::string& folder) { return folder.empty() ? "must be a folder, not ''" : std::string(); });
  command->add_option("--name", options->name, "Name of the files, such as train or val")
      ->type_name("NAME")
      ->capture_default_str()
      ->check(CheckName);
  command->add_option("--format", options->format, "bin: uint16 tokens and nothing else; npy: a NumPy array")
      ->check(OneOf({"bin", "npy"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  command->add_flag("--loss-mask", options->stream.loss_mask,
                    "Also write NAME.loss_mask.FORMAT: a uint8 per token, 1 if it is to be predicted");
  command->add_option("--threads", options->threads, "Threads that generate in this process; 0: one per core")
      ->type_name("N")
      ->check(WholeNumber(0, 4096))
      ->capture_default_str();
  options->server.AddTo(*command);
  command->callback([options, &action] { action = [options] { return Dump(*options); }; });
}

}  // namespace iterand::cli
