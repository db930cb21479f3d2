// iterand dump: sequences as a token file for trainers that read from disk.

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/dump_file.h"
#include "clients/cli/output.h"
#include "clients/cli/progress.h"
#include "clients/cli/source.h"

namespace iterand::cli {
namespace {

struct DumpOptions {
  StreamChoice stream;
  RangeChoice range;
  ServerChoice server;
  int threads = 0;
  std::string out;
  std::string name = "tokens";
  std::string format = "bin";
};

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

absl::StatusOr<DumpIdentity> MakeIdentity(const DumpOptions& options, const StreamFacts& facts, Dtype dtype) {
  const absl::StatusOr<v1::Shard> shard = ParseShard(options.range.shard);
  if (!shard.ok()) return shard.status();
  DumpIdentity identity;
  identity.format = options.format == "bin" ? DumpFormat::kBin : DumpFormat::kNpy;
  identity.dtype = dtype;
  if (identity.format == DumpFormat::kBin) {
    if (dtype == Dtype::kUint32) {
      return absl::InvalidArgumentError(absl::StrCat("--format bin holds uint16 tokens, and this recipe's vocabSize ",
                                                     facts.info.recipe().vocab_size(),
                                                     " exceeds 65536; --format npy can hold it"));
    }
    identity.dtype = Dtype::kUint16;
  }
  identity.sequences = options.range.count;
  identity.length = static_cast<int>(facts.info.recipe().length());
  identity.start = options.range.start;
  identity.rank = shard->rank();
  identity.world = shard->world();
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

// One file of a dump and how much of it was there at the start.
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

// What is kept when a dump ends early.
std::string SafePart(const std::vector<DumpPart>& parts) {
  std::uint64_t safe = parts.front().file->sequences();
  for (const DumpPart& part : parts) safe = std::min(safe, part.file->sequences());
  return absl::StrCat(safe, " sequences are safe, and the same command goes on after them");
}

absl::Status Dump(const DumpOptions& options) {
  absl::StatusOr<StreamFacts> facts = DescribeStream(options.stream, options.server);
  if (!facts.ok()) return facts.status();
  const Dtype dtype = facts->info.dtype() == v1::DTYPE_UINT8    ? Dtype::kUint8
                      : facts->info.dtype() == v1::DTYPE_UINT16 ? Dtype::kUint16
                                                                : Dtype::kUint32;
  absl::StatusOr<DumpIdentity> identity = MakeIdentity(options, *facts, dtype);
  if (!identity.ok()) return identity.status();
  // A request that cannot be met shall leave no files behind.
  {
    absl::StatusOr<std::unique_ptr<SequenceSource>> trial =
        SequenceSource::Open(options.stream, options.range, options.server, {.threads = options.threads});
    if (!trial.ok()) return trial.status();
  }

  // The tokens' file and, if asked for, the mask's.
  std::vector<DumpPart> parts(options.stream.mask ? 2 : 1);
  Progress progress(0, identity->sequences, identity->length);
  std::uint64_t there = identity->sequences;  // in all parts
  for (DumpPart& part : parts) {
    DumpIdentity content = *identity;
    content.mask = &part != parts.data();
    if (content.mask) content.dtype = Dtype::kUint8;
    absl::StatusOr<std::unique_ptr<DumpFile>> file =
        DumpFile::Open(options.out, content.mask ? options.name + ".mask" : options.name, content,
                       [&](std::uint64_t verified) { progress.Update(verified); });
    if (!file.ok()) return file.status();
    part = {*std::move(file), DtypeBytes(content.dtype) * static_cast<std::size_t>(content.length)};
    part.there = part.file->sequences();
    there = std::min(there, part.there);
  }
  if (there < identity->sequences || !std::ranges::all_of(parts, [](const auto& p) { return p.file->complete(); })) {
    if (there > 0) {
      progress.Clear();
      std::fprintf(stderr, "iterand: going on after %llu sequences that are there and match their checksums\n",
                   static_cast<unsigned long long>(there));
    }
    RangeChoice range = options.range;
    range.start += there * identity->world;
    range.count -= there;
    absl::StatusOr<std::unique_ptr<SequenceSource>> source =
        SequenceSource::Open(options.stream, range, options.server, {.threads = options.threads});
    if (!source.ok()) return source.status();
    if ((*source)->facts().info.fingerprint() != facts->info.fingerprint()) {
      return absl::FailedPreconditionError("the server changed while the dump began; run the command again");
    }
    // A second one ends the process at once, should the server not answer: what is journalled is safe.
    for (const int which : {SIGINT, SIGTERM}) {
      std::signal(which, [](int signal) {
        interrupted = true;
        std::signal(signal, SIG_DFL);
      });
    }
    progress.Restart(there);
    RowBatch batch;
    std::vector<std::uint16_t> wide;
    std::uint64_t done = there;
    for (;;) {
      absl::StatusOr<bool> more = (*source)->Next(batch);
      if (absl::IsUnavailable(more.status())) {
        return absl::UnavailableError(absl::StrCat(more.status().message(), "; ", SafePart(parts)));
      }
      if (!more.ok()) return more.status();
      if (!*more) break;
      const bool widen = dtype == Dtype::kUint8 && identity->dtype == Dtype::kUint16;
      if (absl::Status status = parts[0].Append(widen ? Widen(batch.tokens, wide) : batch.tokens, done); !status.ok()) {
        return status;
      }
      if (parts.size() > 1) {
        if (absl::Status status = parts[1].Append(batch.mask, done); !status.ok()) return status;
      }
      done += batch.rows;
      progress.Update(done);
      if (interrupted) {
        return absl::CancelledError("interrupted; " + SafePart(parts));
      }
    }
    for (const DumpPart& part : parts) {
      if (part.file->complete()) continue;
      if (absl::Status status = part.file->Finish(); !status.ok()) return status;
    }
  } else {
    progress.Clear();
    std::fprintf(stderr, "iterand: nothing to do: the dump is complete and matches its checksum\n");
  }
  progress.Clear();
  for (const DumpPart& part : parts) {
    const bool is_mask = &part != parts.data();
    absl::Status status = WriteOutput(absl::StrCat(
        part.file->path(), ": ", identity->sequences, " sequences x ", identity->length, is_mask ? " marks" : " tokens",
        ", ", DtypeName(is_mask ? Dtype::kUint8 : identity->dtype), ", sha256 ", part.file->sha256(), "\n"));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

void AddDump(CLI::App& app, Action& action) {
  auto options = std::make_shared<DumpOptions>();
  CLI::App* command = app.add_subcommand("dump", "Write sequences to a token file with a description beside it");
  command->footer(
      "Writes DIR/NAME.bin or DIR/NAME.npy, and DIR/NAME.json with recipe, seed, fingerprint, shape and SHA-256. bin "
      "is\n"
      "nothing but uint16 tokens, row after row, as nanoGPT-style trainers memory-map them; npy is a NumPy array of "
      "the\n"
      "stream's own dtype. The file gets its name when it is complete. After a kill the same command checks what is\n"
      "there, and goes on after the last part that matches its checksum. Another stream's dump is never overwritten.");
  options->stream.AddTo(*command, /*positional=*/false);
  options->range.AddTo(*command);
  command->add_option("--sequences", options->range.count, "How many sequences")
      ->type_name("N")
      ->required()
      ->check(WholeNumber(1, std::uint64_t{1} << 48));
  command->add_option("--out", options->out, "Folder; made if it is not there")
      ->type_name("DIR")
      ->required()
      ->check([](const std::string& folder) { return folder.empty() ? "a folder is wanted, not ''" : std::string(); });
  command->add_option("--name", options->name, "Name of the files, such as train or val")
      ->type_name("NAME")
      ->capture_default_str()
      ->check([](const std::string& name) {
        return name.empty() || name[0] == '.' || name.find('/') != std::string::npos
                   ? "a file name without folder is wanted, not '" + name + "'"
                   : std::string();
      });
  command->add_option("--format", options->format, "bin: uint16 tokens and nothing else; npy: a NumPy array")
      ->check(OneOf({"bin", "npy"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  command->add_flag("--mask", options->stream.mask,
                    "Also write NAME.mask.FORMAT: a uint8 for every token, 1 where it is to be predicted");
  command->add_option("--threads", options->threads, "Threads that generate in this process; 0: one a core")
      ->type_name("N")
      ->check(WholeNumber(0, 4096))
      ->capture_default_str();
  options->server.AddTo(*command);
  command->callback([options, &action] { action = [options] { return Dump(*options); }; });
}

}  // namespace iterand::cli
