// iterand describe: what a recipe resolves to, and what it costs.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/formats.h"
#include "clients/cli/measure.h"
#include "clients/cli/output.h"
#include "clients/cli/recipe_text.h"
#include "clients/cli/sequence_source.h"
#include "common/printable.h"
#include "iterate/mixture.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {
namespace {

struct DescribeOptions {
  StreamChoice stream;
  ServerChoice server;
  std::uint64_t at = 0;
  bool json = false;
  bool recipe_json = false;
};

// Seconds for which a stream or a part is measured, and after which its first segment is given up. Then both for all
// parts of a mixture together.
constexpr double kMeasureSeconds = 0.15;
constexpr double kMeasureAllSeconds = 1;
constexpr double kPatience = 1;
constexpr double kPatienceForAll = 5;

std::string MixText(v1::Recipe::Mix mix) {
  switch (mix) {
    case v1::Recipe::ROUND:
      return "drawn per round";
    case v1::Recipe::LANE:
      return "fixed per lane";
    default:
      return "drawn per segment";
  }
}

// Tokens per second of one core as text: "3.61 M". If nothing was made in time, the rate is 0 and the text "less than
// 12 k".
std::string SpeedText(double rate, const v1::Recipe& recipe, double patience) {
  if (rate > 0) return Magnitude(rate);
  const auto segment = static_cast<double>(recipe.segment_sequences() * recipe.length());
  return absl::StrCat("less than ", Magnitude(segment / patience));
}

// A table of the parts of a mixture: shares, cost and, if they are made here, speed.
std::string PartsText(const StreamFacts& facts, std::uint64_t at) {
  const v1::StreamInfo& info = facts.info;
  std::size_t width = 4;
  for (const v1::PartInfo& part : info.parts()) width = std::max(width, Printable(part.name()).size());
  const bool local = facts.plan != nullptr;
  std::string text;
  const auto add = [&](const std::string& name, const std::string& share, const std::string& flops,
                       const std::string& speed) {
    absl::StrAppend(&text, absl::StrFormat("  %-*s  %7s  %12s", static_cast<int>(width), name, share, flops),
                    local ? absl::StrCat("  ", speed) : "", "\n");
  };
  const auto flops = [](double value) { return value > 0 ? Magnitude(value) : std::string("-"); };
  add("part", "share", "FLOP a token", "tokens/s of one core, measured");
  const double seconds = std::min(kMeasureSeconds, kMeasureAllSeconds / info.parts_size());
  const double patience = std::min(kPatience, kPatienceForAll / info.parts_size());
  double seconds_a_token = 0;  // of the whole; infinite if a part was not measured
  for (int i = 0; i < info.parts_size(); ++i) {
    const v1::PartInfo& part = info.parts(i);
    const double rate = local ? MeasureTokensPerSecond(facts.plan->mixture()->shared_part(i), seconds, patience) : 0;
    if (part.share() > 0) seconds_a_token += part.share() / rate;
    add(Printable(part.name()), absl::StrFormat("%.1f %%", 100 * part.share()), flops(part.flops_per_token()),
        local ? SpeedText(rate, info.recipe(), patience) : "");
  }
  add("all", "", flops(info.cost().flops_per_token()),
      std::isfinite(seconds_a_token) ? Magnitude(1 / seconds_a_token) : "-");
  return absl::StrCat("\nParts at index ", at, ":\n\n", text);
}

// The resolved recipe as a recipe file has it, with a newline at its end.
std::string RecipeText(const v1::StreamInfo& info) {
  return absl::StrCat(PrintableLines(std::string(absl::StripTrailingAsciiWhitespace(info.recipe_json()))), "\n");
}

std::string ToText(const std::string& name, const StreamFacts& facts, std::uint64_t at) {
  const v1::StreamInfo& info = facts.info;
  const v1::Recipe& recipe = info.recipe();
  std::string text = absl::StrCat(Printable(name), ": ", Printable(recipe.description()), "\n\n");
  const auto line = [&text](const char* label, const auto&... value) {
    absl::StrAppend(&text, absl::StrFormat("  %-14s  ", label), absl::StrCat(value...), "\n");
  };
  line("tokens", DtypeName(facts.dtype), ", below ", recipe.vocab_size());
  line("sequence", recipe.length(), " tokens");
  const bool mixture = info.parts_size() > 0;
  if (mixture) {
    line("parts", info.parts_size(), ", each segment by one of them");
  } else {
    line("families", FamilyShares(recipe), recipe.families_size() > 1 ? ", " : "",
         recipe.families_size() > 1 ? MixText(recipe.mix()) : "");
  }
  line("lanes", recipe.lanes(), " (a number of shards must divide it)");
  line("segment", recipe.segment_sequences(), " sequences, ",
       Magnitude(static_cast<double>(info.cost().segment_bytes())), "B");
  if (info.cost().flops_per_token() > 0) {
    line("cost", Magnitude(info.cost().flops_per_token()), "FLOP a token",
         mixture ? absl::StrCat(" at index ", at) : "");
  } else {
    line("cost", "integer work only");
  }
  if (!mixture && facts.plan != nullptr && !facts.plan->endless()) {
    const double rate = MeasureTokensPerSecond(facts.plan, kMeasureSeconds, kPatience);
    line("speed", SpeedText(rate, recipe, kPatience), "tokens/s of one core, measured");
  }
  const auto first_sequences = static_cast<double>(info.cost().first_batch_sequences());
  const double first_flops = info.cost().flops_per_token() * static_cast<double>(recipe.length()) * first_sequences;
  line("first batch", info.cost().first_batch_sequences(), " sequences are made before 64 are ready",
       first_flops > 0 ? absl::StrCat(": ", Magnitude(first_flops), "FLOP, without filters") : "");
  line("seed", info.seed());
  line("engine version", facts.engine_version);
  line("fingerprint", absl::BytesToHexString(info.fingerprint()));
  if (mixture) absl::StrAppend(&text, PartsText(facts, at));
  absl::StrAppend(&text, "\nThe recipe with every default written out:\n\n", RecipeText(info));
  return text;
}

absl::StatusOr<std::string> ToJson(const StreamFacts& facts, std::uint64_t at) {
  const v1::StreamInfo& info = facts.info;
  nlohmann::ordered_json json;
  json["engine_version"] = facts.engine_version;
  json["fingerprint"] = absl::BytesToHexString(info.fingerprint());
  json["seed"] = info.seed();
  json["dtype"] = DtypeName(facts.dtype);
  json["cost"] = {{"flops_per_token", info.cost().flops_per_token()},
                  {"segment_bytes", info.cost().segment_bytes()},
                  {"first_batch_sequences", info.cost().first_batch_sequences()}};
  if (info.parts_size() > 0) {
    json["at"] = at;
    json["parts"] = nlohmann::ordered_json::array();
    for (const v1::PartInfo& part : info.parts()) {
      json["parts"].push_back(
          {{"name", part.name()}, {"share", part.share()}, {"flops_per_token", part.flops_per_token()}});
    }
  }
  json["recipe"] = nlohmann::ordered_json::parse(info.recipe_json(), nullptr, /*allow_exceptions=*/false);
  if (json["recipe"].is_discarded()) return absl::InternalError("the server's description of the recipe is not JSON");
  return JsonText(json);
}

absl::Status Describe(const DescribeOptions& options) {
  if (options.stream.spec.recipe.empty()) {
    return absl::InvalidArgumentError(
        "RECIPE is missing: it must be a preset, a JSON file or JSON text (see iterand describe --help)");
  }
  absl::StatusOr<StreamFacts> facts = DescribeStream(options.stream, options.server, options.at);
  if (!facts.ok()) return facts.status();
  if (options.recipe_json) return WriteOutput(RecipeText(facts->info));
  if (!options.json) {
    const std::string& name = options.stream.spec.recipe;
    const bool is_text = absl::StartsWith(absl::StripLeadingAsciiWhitespace(name), "{");
    return WriteOutput(ToText(is_text ? "recipe" : name, *facts, options.at));
  }
  const absl::StatusOr<std::string> json = ToJson(*facts, options.at);
  if (!json.ok()) return json.status();
  return WriteOutput(*json);
}

}  // namespace

void AddDescribe(CLI::App& app, Action& action) {
  auto options = std::make_shared<DescribeOptions>();
  CLI::App* command = app.add_subcommand("describe", "Show a recipe with every default, its fingerprint and its cost");
  options->stream.AddTo(*command, /*positional=*/true);
  command->add_option("--at", options->at, "Index at which the shares of a mixture's parts are shown")
      ->type_name("G")
      ->check(WholeNumber(0, std::numeric_limits<std::uint64_t>::max()))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON for programs instead of text for people");
  CLI::Option* const json = command->get_option("--json");
  command->add_flag("--recipe-json", options->recipe_json, "Print only the recipe, to begin one of your own")
      ->excludes(json);
  options->server.AddTo(*command);
  command->callback([options, &action] { action = [options] { return Describe(*options); }; });
}

}  // namespace iterand::cli
