// iterand sample: sequences of a stream on standard output.

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/formats.h"
#include "clients/cli/output.h"
#include "clients/cli/sequence_source.h"
#include "common/printable.h"
#include "iterate/statistics.h"

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

constexpr char kMaskFormat[] =
    "--loss-mask: only --format jsonl shows masks; iterand dump --loss-mask writes them to a file";

absl::Status Sample(const SampleOptions& options) {
  const bool raw = options.format == "raw";
  const bool json = options.format == "jsonl";
  const bool silent = options.format.empty() && options.statistics;
  if (options.stream.loss_mask && !json) return absl::InvalidArgumentError(kMaskFormat);
  absl::StatusOr<std::unique_ptr<SequenceSource>> source = SequenceSource::Open(
      options.stream, options.range, options.server, {.threads = options.threads, .provenance = !raw && !silent});
  if (!source.ok()) return source.status();

  const StreamFacts& facts = (*source)->facts();
  const std::size_t sequence_bytes = facts.sequence_bytes();
  StatisticsCollector collector(facts.dtype, facts.length(), facts.info.recipe().vocab_size());
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
      } else {
        AppendPicture(index, batch.provenance[row], tokens, text);
      }
      if (absl::Status status = WriteOutput(text); !status.ok()) return status;
    }
    // The next batch may take seconds, and Ctrl-C would lose what is not written.
    if (absl::Status status = FlushOutput(); !status.ok()) return status;
  }
  if (!(*source)->status().ok()) return (*source)->status();
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
      R"(Formats: text is a picture, one character per token: '.' the commonest token of the sequence, then a-z, A-Z, 0-9 by
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
