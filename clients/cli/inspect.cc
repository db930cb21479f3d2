// iterand inspect: what streams and token files are made of.

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/dump_reader.h"
#include "clients/cli/formats.h"
#include "clients/cli/inspected.h"
#include "clients/cli/output.h"
#include "clients/cli/report_html.h"
#include "clients/cli/report_text.h"
#include "clients/cli/terminal.h"
#include "iterate/presets.h"

namespace iterand::cli {
namespace {

// Complexities of all sequences are kept, and the page of a report holds them.
constexpr std::uint64_t kMaxCount = 65536;

struct InspectOptions {
  StreamChoice stream;
  ServerChoice server;
  std::uint64_t start = 0;
  std::uint64_t count = 256;
  std::vector<std::string> compare;
  std::string html;
  int threads = 0;
  bool json = false;
};

// What is to be inspected, in order.
absl::StatusOr<std::vector<std::string>> Names(const InspectOptions& options) {
  std::vector<std::string> names;
  if (!options.stream.spec.recipe.empty()) names.push_back(options.stream.spec.recipe);
  names.insert(names.end(), options.compare.begin(), options.compare.end());
  if (names.empty() && !options.server.local()) names.emplace_back(kDefaultPreset);
  if (names.empty()) {
    return absl::InvalidArgumentError(
        "RECIPE is missing: it must be a preset, a JSON file, JSON text or a dump (see iterand inspect --help)");
  }
  return names;
}

// Options that would do nothing are refused.
absl::Status CheckUsed(const InspectOptions& options, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (!NamesDump(name)) return absl::OkStatus();
  }
  const char* const unused = !options.server.local() ? "--server" : options.stream.spec.seed != 0 ? "--seed" : nullptr;
  if (unused == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(unused, " is for recipes, and only dumps are inspected: ", absl::StrJoin(names, ", ")));
}

absl::Status WriteFile(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (file) return absl::OkStatus();
  const std::error_code error(errno, std::generic_category());
  return absl::InternalError(absl::StrCat("--html ", path, ": cannot be written (", error.message(), ")"));
}

absl::Status Inspect(const InspectOptions& options) {
  const absl::StatusOr<std::vector<std::string>> names = Names(options);
  if (!names.ok()) return names.status();
  if (absl::Status status = CheckUsed(options, *names); !status.ok()) return status;
  std::vector<Inspected> all;
  for (const std::string& name : *names) {
    StreamChoice stream = options.stream;
    stream.spec.recipe = name;
    absl::StatusOr<Inspected> inspected =
        NamesDump(name)
            ? InspectDump(name, options.stream.spec.length, options.start, options.count)
            : InspectStream(stream, {.start = options.start, .count = options.count}, options.server, options.threads);
    if (!inspected.ok()) return inspected.status();
    all.push_back(*std::move(inspected));
  }
  if (!options.html.empty()) {
    const absl::StatusOr<std::string> page = HtmlReport(all);
    if (!page.ok()) return page.status();
    if (absl::Status status = WriteFile(options.html, *page); !status.ok()) return status;
  }
  if (!options.json) return WriteOutput(TextReport(all, TerminalOf(STDOUT_FILENO)));
  nlohmann::ordered_json json;
  json["streams"] = nlohmann::ordered_json::array();
  for (const Inspected& inspected : all) json["streams"].push_back(InspectedJson(inspected, /*picture=*/false));
  return WriteOutput(JsonText(json));
}

}  // namespace

void AddInspect(CLI::App& app, Action& action) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command =
      app.add_subcommand("inspect", "Show statistics of streams and token files, alone or side by side");
  command->footer(
      "RECIPE may also be a dump: its folder, its .bin or .npy file, or its .json file. A .bin or .npy file without a\n"
      "description needs --length. With --server the recipes are those of the server, by default the preset up.\n"
      "\n"
      "bits0 to bits3: in-context Markov code lengths in bits per token, of contexts of 0 to 3 tokens, over the "
      "second\n"
      "halves of the sequences. structured: zlib ratio between 0.06 and 0.9. in band: complexity within the recipe's\n"
      "band. distinct: median of different tokens. repeats: tokens that end 8 tokens which the sequence had before.\n"
      "periodic: 90 % of the second half repeats at a distance of at most a quarter of the length.\n"
      "The same sequences give the same report, byte by byte, whatever made them and with however many threads.");
  options->stream.AddTo(*command, /*positional=*/true);
  command->add_option("--compare", options->compare, "Further recipes and dumps, side by side with the first")
      ->type_name("RECIPE ...");
  command->add_option("--start", options->start, "First index")
      ->type_name("G")
      ->check(WholeNumber(0, ~std::uint64_t{0}))
      ->capture_default_str();
  command->add_option("--count", options->count, absl::StrCat("How many sequences of each, at most ", kMaxCount))
      ->type_name("N")
      ->check(WholeNumber(1, kMaxCount))
      ->capture_default_str();
  command->add_option("--html", options->html, "Also write the report as one HTML page with charts, for any browser")
      ->type_name("FILE")
      ->check([](const std::string& path) { return path.empty() ? "must be a file, not ''" : std::string(); });
  command->add_flag("--json", options->json, "Print JSON for programs instead of text for people");
  command->add_option("--threads", options->threads, "Threads that generate in this process; 0: one per core")
      ->type_name("N")
      ->check(WholeNumber(0, 4096))
      ->capture_default_str();
  options->server.AddTo(*command);
  command->callback([options, &action] { action = [options] { return Inspect(*options); }; });
}

}  // namespace iterand::cli
