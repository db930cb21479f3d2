#include "clients/cli/report_html.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "clients/cli/report/report_files.h"
#include "clients/cli/sha256.h"
#include "common/printable.h"
#include "nlohmann/json.hpp"
#include "server/http/page_files.h"

namespace iterand::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kEntry[] = "report.js";

// A file of the report's own, or of the server's page. Both are compiled in.
absl::StatusOr<absl::string_view> FileNamed(const std::string& name) {
  const std::string path = absl::StrCat("/", name);
  for (const std::span<const PageFile> files : {ReportFiles(), PageFiles()}) {
    const auto found = std::ranges::find(files, path, &PageFile::path);
    if (found != files.end()) return absl::string_view(found->content.data(), found->content.size());
  }
  return absl::InternalError(absl::StrCat("no file of the page is called ", name));
}

// JavaScript modules as one script, since a page without other files cannot import any. A module becomes a function
// that is called once, and what it exports the object that it returns:
//
//   import { a, b } from "./other.js";    ->    const { a, b } = modules["other.js"];
//   export function a() { ... }           ->    function a() { ... }     and at the end   return { a };
//
// The modules of the page have no other form of either: names alone, each statement on a line of its own.
class Bundle {
 public:
  // Appends a module after those that it imports.
  absl::Status Add(const std::string& name) {
    if (std::ranges::count(added_, name) > 0) return absl::OkStatus();
    added_.push_back(name);
    const absl::StatusOr<absl::string_view> source = FileNamed(name);
    if (!source.ok()) return source.status();
    std::string body;
    std::vector<std::string> exports;
    for (absl::string_view line : absl::StrSplit(*source, '\n')) {
      if (absl::StartsWith(line, "import ")) {
        if (absl::Status status = Import(line, body); !status.ok()) return status;
        continue;
      }
      if (absl::ConsumePrefix(&line, "export ")) {
        exports.push_back(ExportedName(line));
        if (exports.back().empty()) return Unknown(line);
      }
      absl::StrAppend(&body, line, "\n");
    }
    absl::StrAppend(&script_, "modules[\"", name, "\"] = (() => {\n", body, "return { ", absl::StrJoin(exports, ", "),
                    " };\n})();\n");
    return absl::OkStatus();
  }

  std::string Script() const { return absl::StrCat("const modules = {};\n", script_); }

 private:
  static absl::Status Unknown(absl::string_view line) {
    return absl::InternalError(absl::StrCat("cannot bundle: ", line));
  }

  // The NAME of "function NAME(", "async function NAME(" or "const NAME ="; empty for anything else.
  static std::string ExportedName(absl::string_view declaration) {
    const std::vector<absl::string_view> words = absl::StrSplit(declaration, absl::ByAnyChar(" ("), absl::SkipEmpty());
    if (words.size() > 2 && words[0] == "async") return std::string(words[2]);
    const bool known = words.size() > 1 && (words[0] == "function" || words[0] == "const");
    return known ? std::string(words[1]) : "";
  }

  absl::Status Import(absl::string_view line, std::string& body) {
    absl::string_view rest = line;
    const std::size_t end = rest.find('}');
    if (!absl::ConsumePrefix(&rest, "import {") || end == absl::string_view::npos) return Unknown(line);
    const absl::string_view names = line.substr(8, end - 8);
    rest = line.substr(end + 1);
    if (!absl::ConsumePrefix(&rest, " from \"./") || !absl::ConsumeSuffix(&rest, "\";") ||
        absl::StrContains(names, " as ")) {
      return Unknown(line);
    }
    absl::StrAppend(&body, "const {", names, "} = modules[\"", rest, "\"];\n");
    return Add(std::string(rest));
  }

  std::vector<std::string> added_;
  std::string script_;
};

// Text between tags.
std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(Printable(text), {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

// For policies of pages: only the script with these bytes may run.
std::string ScriptHash(const std::string& script) {
  Sha256 hash;
  hash.Update(std::as_bytes(std::span(script)));
  return absl::StrCat("'sha256-", absl::Base64Escape(absl::HexStringToBytes(hash.Finish())), "'");
}

std::string Title(std::span<const Inspected> all) {
  if (all.size() == 1) return all.front().name;
  if (all.size() > 4) return absl::StrCat(all.size(), " streams side by side");
  return absl::StrJoin(all, ", ", [](std::string* out, const Inspected& one) { absl::StrAppend(out, one.name); });
}

}  // namespace

absl::StatusOr<std::string> HtmlReport(std::span<const Inspected> all) {
  Json data;
  data["streams"] = Json::array();
  for (const Inspected& inspected : all) data["streams"].push_back(InspectedJson(inspected, /*picture=*/true));
  // In ASCII, and without what could end the element that it is in.
  const std::string text = absl::StrReplaceAll(
      data.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace), {{"<", "\\u003c"}});
  Bundle bundle;
  if (absl::Status status = bundle.Add(kEntry); !status.ok()) return status;
  const std::string script = bundle.Script();

  std::vector<std::pair<absl::string_view, std::string>> values = {
      {"{{title}}", Escaped(Title(all))},
      {"{{data}}", text},
      {"{{script}}", script},
      {"{{policy}}",
       absl::StrCat("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src ", ScriptHash(script))}};
  const absl::StatusOr<absl::string_view> page = FileNamed("report.html");
  const absl::StatusOr<absl::string_view> icon = FileNamed("icon.svg");
  const absl::StatusOr<absl::string_view> style = FileNamed("style.css");
  const absl::StatusOr<absl::string_view> own_style = FileNamed("report.css");
  for (const absl::StatusOr<absl::string_view>* file : {&page, &icon, &style, &own_style}) {
    if (!file->ok()) return file->status();
  }
  values.emplace_back("{{icon}}", std::string(*icon));
  values.emplace_back("{{style}}", absl::StrCat("\n", *style, *own_style));
  return absl::StrReplaceAll(*page, values);
}

}  // namespace iterand::cli
