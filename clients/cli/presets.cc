// iterand presets: lists the presets and the families.

#include "iterate/presets.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "clients/cli/command.h"
#include "clients/cli/formats.h"
#include "clients/cli/output.h"
#include "clients/cli/sequence_source.h"
#include "common/printable.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {
namespace {

constexpr std::size_t kTextWidth = 100;

struct PresetsOptions {
  ServerChoice server;
  bool json = false;
};

// Appends one entry of a list: the name, then the text in a column beside it, broken into lines.
void AppendEntry(std::string& out, std::size_t name_width, const std::string& name, const std::string& text) {
  std::string line = absl::StrFormat("  %-*s ", static_cast<int>(name_width), name);
  const std::size_t indent = line.size();
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipWhitespace())) {
    if (line.size() > indent && line.size() + 1 + word.size() > kTextWidth) {
      absl::StrAppend(&out, line, "\n");
      line.assign(indent, ' ');
    }
    absl::StrAppend(&line, " ", word);
  }
  absl::StrAppend(&out, line, "\n");
}

std::string ToText(const v1::DescribeResponse& list) {
  std::size_t width = 0;
  for (const v1::Preset& preset : list.presets()) width = std::max(width, Printable(preset.name()).size());
  for (const v1::FamilyInfo& family : list.families()) width = std::max(width, Printable(family.name()).size());
  std::string text = "Presets, for --recipe and describe:\n\n";
  for (const v1::Preset& preset : list.presets()) {
    AppendEntry(text, width, Printable(preset.name()), Printable(preset.description()));
  }
  absl::StrAppend(&text, "\nFamilies of random computations, for recipes of your own:\n\n");
  for (const v1::FamilyInfo& family : list.families()) {
    AppendEntry(text, width, Printable(family.name()), Printable(family.summary()));
  }
  return text;
}

std::string ToJson(const v1::DescribeResponse& list) {
  nlohmann::ordered_json json;
  json["engine_version"] = list.engine_version();
  json["default"] = kDefaultPreset;
  json["presets"] = nlohmann::ordered_json::array();
  for (const v1::Preset& preset : list.presets()) {
    json["presets"].push_back({{"name", preset.name()}, {"description", preset.description()}});
  }
  json["families"] = nlohmann::ordered_json::array();
  for (const v1::FamilyInfo& family : list.families()) {
    json["families"].push_back(
        {{"name", family.name()}, {"summary", family.summary()}, {"reads_input", family.reads_input()}});
  }
  return JsonText(json);
}

absl::Status Presets(const PresetsOptions& options) {
  absl::StatusOr<v1::DescribeResponse> list = DescribeServer(options.server);
  if (!list.ok()) return list.status();
  return WriteOutput(options.json ? ToJson(*list) : ToText(*list));
}

}  // namespace

void AddPresets(CLI::App& app, Action& action) {
  auto options = std::make_shared<PresetsOptions>();
  CLI::App* command = app.add_subcommand("presets", "List the presets and the families of random computations");
  command->add_flag("--json", options->json, "Print JSON for programs instead of text for people");
  options->server.AddTo(*command);
  command->callback([options, &action] { action = [options] { return Presets(*options); }; });
}

}  // namespace iterand::cli
