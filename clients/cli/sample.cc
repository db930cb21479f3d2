// iterand sample: sequences of a stream on standard output.

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/cli/arguments.h"
#include "clients/cli/cells.h"
#include "clients/cli/command.h"
#include "clients/cli/formats.h"
#include "clients/cli/output.h"
#include "clients/cli/sequence_source.h"
#include "clients/cli/terminal.h"
#include "common/printable.h"
#include "common/thread_clock.h"
#include "iterate/fingerprint.h"
#include "iterate/statistics.h"
#include "iterate/stream.h"
#include "randnet/core_time_limit.h"
#include "randnet/run_control.h"

namespace iterand::cli {
namespace {

constexpr std::uint64_t kMaxCount = std::uint64_t{1} << 48;

struct SampleOptions {
  StreamChoice stream;
  RangeChoice range;
  ServerChoice server;
  int threads = 0;
  std::string format;  // empty: text, unless statistics alone are asked for
  bool statistics = false;
};

// Seconds of core time for the programs of coloured pictures, of a whole command: each takes its segment again.
constexpr double kProgramSeconds = 2;
// Memory for them, as of the server's page.
constexpr std::uint64_t kMaxProgramBytes = std::uint64_t{64} << 20;

constexpr char kMaskFormat[] =
    "--loss-mask: only --format jsonl shows masks; iterand dump --loss-mask writes them to a file";

// Finds the programs that made sequences. That happens in this process, for a server of the same engine version too.
class ProgramFinder {
 public:
  explicit ProgramFinder(const StreamFacts& facts) {
    std::shared_ptr<Stream> stream;
    if (facts.plan != nullptr) {
      stream = Stream::FromPlan(facts.plan);
    } else {
      absl::StatusOr<std::shared_ptr<Stream>> opened = Stream::Open(facts.info.recipe(), facts.info.seed());
      if (!opened.ok()) return;
      const Fingerprint& fingerprint = (*opened)->fingerprint();
      if (std::string(fingerprint.begin(), fingerprint.end()) != facts.info.fingerprint()) return;
      stream = *std::move(opened);
    }
    if (stream->Cost().workspace_bytes + stream->Cost().segment_bytes <= kMaxProgramBytes) stream_ = std::move(stream);
  }

  // The sampled parameters of the program that made a sequence last. Empty if no program did, or if it is not known:
  // the stream is one of another engine version or takes too much memory, or the time is over.
  std::string Find(std::uint64_t index, const Provenance& provenance) {
    if (stream_ == nullptr || provenance.depth == 0) return "";
    const double begin = ThreadSeconds();
    RunControl control;
    const CoreTimeLimit limit(&control, left_);
    const absl::StatusOr<Explanation> explanation = stream_->Explain(index, {.control = &control});
    left_ -= ThreadSeconds() - begin;
    if (!explanation.ok()) {
      unknown_from_ = index;
      stream_ = nullptr;
      return "";
    }
    return explanation->steps.empty() ? "" : explanation->steps.back().program;
  }

  // From which sequence on the time was over.
  std::optional<std::uint64_t> unknown_from() const { return unknown_from_; }

 private:
  std::shared_ptr<Stream> stream_;
  double left_ = kProgramSeconds;
  std::optional<std::uint64_t> unknown_from_;
};

absl::Status Sample(const SampleOptions& options) {
  const bool raw = options.format == "raw";
  const bool json = options.format == "jsonl";
  const bool silent = options.format.empty() && options.statistics;
  // A format that is named gives the same bytes everywhere.
  const Terminal terminal = options.format.empty() ? TerminalOf(STDOUT_FILENO) : Terminal();
  const bool coloured = terminal.colours != ColourDepth::kNone && !silent;
  if (options.stream.loss_mask && !json) return absl::InvalidArgumentError(kMaskFormat);
  absl::StatusOr<std::unique_ptr<SequenceSource>> source = SequenceSource::Open(
      options.stream, options.range, options.server, {.threads = options.threads, .provenance = !raw && !silent});
  if (!source.ok()) return source.status();

  const StreamFacts& facts = (*source)->facts();
  const std::size_t sequence_bytes = facts.sequence_bytes();
  StatisticsCollector collector(facts.dtype, facts.length(), facts.info.recipe().vocab_size());
  std::optional<ProgramFinder> programs;
  if (coloured) programs.emplace(facts);
  RowBatch batch;
  std::vector<std::uint32_t> tokens;
  std::string text;
  while ((*source)->Next(batch)) {
    if (options.statistics) collector.Add(batch.tokens.data(), batch.rows, batch.parts);
    if (silent) continue;
    if (raw) {
      if (absl::Status status = WriteOutput(batch.tokens); !status.ok()) return status;
    }
    for (int row = 0; row < batch.rows && !raw; ++row) {
      WidenTokens(batch.tokens.subspan(row * sequence_bytes, sequence_bytes), facts.dtype, tokens);
      const std::uint64_t index = batch.first_index + row * batch.stride;
      text.clear();
      if (json) {
        const std::size_t length = tokens.size();
        AppendJsonLine(index, batch.provenance[row], tokens,
                       batch.loss_mask.empty() ? batch.loss_mask : batch.loss_mask.subspan(row * length, length), text);
      } else if (coloured) {
        AppendColouredPicture(index, batch.provenance[row], programs->Find(index, batch.provenance[row]), tokens,
                              terminal, text);
      } else {
        AppendPicture(index, batch.provenance[row], tokens, text);
      }
      if (absl::Status status = WriteOutput(text); !status.ok()) return status;
    }
    // The next batch may take seconds, and Ctrl-C would lose what is not written.
    if (absl::Status status = FlushOutput(); !status.ok()) return status;
  }
  if (!(*source)->status().ok()) return (*source)->status();
  const std::optional<std::uint64_t> unknown_from = programs ? programs->unknown_from() : std::nullopt;
  if (unknown_from) {
    const std::string hint = absl::StrCat("iterand explain has the programs from sequence ", *unknown_from, " on.");
    if (absl::Status status = WriteOutput(Faint(hint, terminal) + "\n"); !status.ok()) return status;
  }
  if (!options.statistics) return absl::OkStatus();
  std::vector<std::string> parts;
  for (const v1::PartInfo& part : (*source)->facts().info.parts()) parts.push_back(Printable(part.name()));
  const std::string summary = FormatStatistics(collector.Summary(), parts);
  if (silent) return WriteOutput(summary);
  std::fputs(summary.c_str(), stderr);
  return absl::OkStatus();
}

}  // namespace

void AddSample(CLI::App& app, Action& action) {
  auto options = std::make_shared<SampleOptions>();
  CLI::App* command = app.add_subcommand("sample", "Write sequences to standard output");
  command->footer(
      R"(Without --format, a terminal with colours shows one cell per token, from the commonest of the sequence, which
is darkest, to the rarest. If COLORFGBG gives a light ground, the commonest is lightest. NO_COLOR=1 gives text.
Formats: text is a picture, one character per token: '.' the commonest token of the sequence, then a-z, A-Z, 0-9 by
falling frequency, '#' all rarer ones. raw is only tokens, little-endian, row after row, in the stream's dtype: uint8
up to 256 tokens, uint16 up to 65536, else uint32. jsonl is one object per sequence: index, tokens, provenance.
With and without --server the sequences are the same.
--stats prints the shares of constant sequences, of order-0 entropy above 7 bits, of zlib ratios between 0.06 and 0.9,
and of exact duplicates. Then it prints quantiles of order-0 entropy, different tokens, in-context Markov code
lengths, and what each part of a mixture has made.
With --format as well, the sequences go to standard output and the statistics to standard error.)");
  options->stream.AddTo(*command, /*positional=*/false);
  options->range.count = 8;
  options->range.AddTo(*command);
  command->add_option("--count", options->range.count, "How many sequences")
      ->type_name("N")
      ->check(WholeNumber(0, kMaxCount))
      ->capture_default_str();
  command->add_option("--format", options->format, "text: a picture; raw: tokens and nothing else; jsonl: objects")
      ->check(OneOf({"text", "raw", "jsonl"}))
      ->type_name("FORMAT")
      ->default_str("text");
  command->add_flag("--loss-mask", options->stream.loss_mask,
                    "With --format jsonl: a mask beside the tokens, 1 where a token is to be predicted");
  command->add_flag("--stats", options->statistics, "Print statistics of the sequences, not the sequences");
  command->add_option("--threads", options->threads, "Threads that generate in this process; 0: one per core")
      ->type_name("N")
      ->check(WholeNumber(0, 4096))
      ->capture_default_str();
  options->server.AddTo(*command);
  command->callback([options, &action] { action = [options] { return Sample(*options); }; });
}

}  // namespace iterand::cli
