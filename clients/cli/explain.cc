// iterand explain: where a sequence came from, and a proof that it can be made again on its own.

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/formats.h"
#include "clients/cli/output.h"
#include "clients/cli/sequence_source.h"
#include "common/printable.h"
#include "iterate/stream.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {
namespace {

struct ExplainOptions {
  StreamChoice stream;
  std::uint64_t index = 0;
  bool json = false;
};

// What the explanation names by numbers.
struct Names {
  std::string family;
  std::string part;  // empty if the recipe is not a mixture
};

std::string ToText(const Explanation& explanation, const Names& names) {
  const RowProvenance& made = explanation.provenance;
  std::string text =
      absl::StrFormat("index %d: lane %d, segment %d, place %d in the segment\n", explanation.index,
                      explanation.position.lane, explanation.position.segment, explanation.position.offset);
  if (!names.part.empty()) absl::StrAppend(&text, "part ", names.part, "\n");
  if (made.depth > 0) {
    absl::StrAppend(&text, "made by ", names.family, " in round ", made.round, ", row ", made.row, ", at depth ",
                    made.depth, "\n");
  } else {
    // A pool emits rows that no program has written yet.
    absl::StrAppend(&text, "a row of noise or constants, which no program has made; emitted in round ", made.round,
                    ", row ", made.row, "\n");
  }
  for (const ExplainedStep& step : explanation.steps) {
    absl::StrAppend(&text, "  round ", step.round, ", row ", step.row, ": ", step.family, " reads ", step.input);
    if (step.prompt_length > 0) {
      absl::StrAppend(&text, ", prompt of ", step.prompt_length, " tokens from offset ", step.prompt_offset);
    }
    absl::StrAppend(&text, "\n");
    if (!step.program.empty()) absl::StrAppend(&text, "    ", step.program, "\n");
  }
  absl::StrAppend(&text, explanation.reproduced ? "made again alone: equal\n" : "made again alone: DIFFERENT\n");
  return text;
}

std::string ToJson(const Explanation& explanation, const Names& names) {
  nlohmann::ordered_json json = {{"index", explanation.index},
                                 {"lane", explanation.position.lane},
                                 {"segment", explanation.position.segment},
                                 {"offset", explanation.position.offset},
                                 {"round", explanation.provenance.round},
                                 {"row", explanation.provenance.row},
                                 {"family", names.family},
                                 {"depth", explanation.provenance.depth},
                                 {"reproduced", explanation.reproduced}};
  if (!names.part.empty()) json["part"] = names.part;
  json["steps"] = nlohmann::ordered_json::array();
  for (const ExplainedStep& step : explanation.steps) {
    json["steps"].push_back({{"round", step.round},
                             {"row", step.row},
                             {"family", step.family},
                             {"program", step.program},
                             {"input", step.input},
                             {"prompt_length", step.prompt_length},
                             {"prompt_offset", step.prompt_offset}});
  }
  return JsonText(json);
}

absl::Status Explain(const ExplainOptions& options) {
  absl::StatusOr<std::shared_ptr<Stream>> stream = OpenLocal(options.stream);
  if (!stream.ok()) return stream.status();
  absl::StatusOr<Explanation> explanation = (*stream)->Explain(options.index);
  if (!explanation.ok()) return explanation.status();
  const RowProvenance& made = explanation->provenance;
  const std::vector<std::string>& parts = (*stream)->part_names();
  const Names names{.family = (*stream)->family_name(made), .part = parts.empty() ? "" : Printable(parts[made.part])};
  absl::Status written = WriteOutput(options.json ? ToJson(*explanation, names) : ToText(*explanation, names));
  if (!written.ok()) return written;
  if (!explanation->reproduced) {
    return absl::InternalError(absl::StrCat("index ", options.index, ": made again alone, the sequence differs"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddExplain(CLI::App& app, Action& action) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* command = app.add_subcommand("explain", "Show where a sequence came from, and make it again alone");
  options->stream.AddTo(*command, /*positional=*/false);
  command->add_option("--index", options->index, "Index of the sequence")
      ->type_name("G")
      ->required()
      ->check(WholeNumber(0, std::numeric_limits<std::uint64_t>::max()));
  command->add_flag("--json", options->json, "Print JSON for programs instead of text for people");
  command->callback([options, &action] { action = [options] { return Explain(*options); }; });
}

}  // namespace iterand::cli
