// iterand execute: runs programs of the byte machine, in this process or on a server.

#include "server/answers/execute.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/output.h"
#include "clients/cli/server_options.h"
#include "common/read_file.h"
#include "nlohmann/json.hpp"

namespace iterand::cli {
namespace {

// Limit of a file with programs: what a server takes in a request.
constexpr std::size_t kMaxProgramFileBytes = std::size_t{16} << 20;

constexpr std::uint64_t kMaxUint64 = ~std::uint64_t{0};

struct ExecuteOptions {
  std::vector<std::string> programs;
  std::optional<std::string> program_file;
  std::optional<std::string> list_file;
  std::string input;
  std::optional<std::string> input_file;
  std::uint64_t input_seed = 0;
  bool has_input_seed = false;
  // 0: the service's default.
  std::uint64_t max_steps = 0;
  std::uint32_t max_output = 0;
  std::uint32_t cells = 0;
  std::uint32_t symbols = 0;
  bool repeat = false;
  std::string format = "text";
  ServerChoice server;
};

// The lines of a text. A newline ends a line, so none follows the last newline, and an empty text has none.
std::vector<absl::string_view> Lines(absl::string_view text) {
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  if (lines.back().empty()) lines.pop_back();
  return lines;
}

absl::StatusOr<v1::ExecuteRequest> MakeRequest(const ExecuteOptions& options) {
  std::vector<std::string> programs = options.programs;
  if (options.program_file) {
    absl::StatusOr<std::string> text = ReadFile(*options.program_file, kMaxProgramFileBytes);
    if (!text.ok()) return text.status();
    programs.push_back(*std::move(text));
  }
  if (options.list_file) {
    const absl::StatusOr<std::string> text = ReadFile(*options.list_file, kMaxProgramFileBytes);
    if (!text.ok()) return text.status();
    // A blank line is an empty program: program i of a list is its line i, whatever the lines before it are.
    for (const absl::string_view line : Lines(*text)) {
      if (programs.size() == kMaxExecutePrograms) {
        return absl::InvalidArgumentError(absl::StrCat(*options.list_file, ": has more than ", kMaxExecutePrograms,
                                                       " programs, must have at most that many"));
      }
      programs.emplace_back(line);
    }
  }
  if (programs.empty()) {
    const std::string what =
        options.list_file ? absl::StrCat("--list ", *options.list_file, " has no lines") : "no program is given";
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": name a program as an argument, a file that is one by --file, or a file of them by --list"));
  }
  std::string input = options.input;
  if (options.input_file) {
    absl::StatusOr<std::string> bytes = ReadFile(*options.input_file, kMaxExecuteInput);
    if (!bytes.ok()) return bytes.status();
    input = *std::move(bytes);
  }
  v1::ExecuteRequest request;
  for (std::size_t i = 0; i < programs.size(); ++i) {
    v1::ExecuteProgram& program = *request.add_programs();
    program.set_text(std::move(programs[i]));
    if (options.has_input_seed) {
      program.set_seed(options.input_seed + i);
    } else if (!input.empty()) {
      program.set_input(input);
    }
  }
  if (options.max_steps > 0) request.set_max_steps(options.max_steps);
  if (options.max_output > 0) request.set_max_output(options.max_output);
  if (options.cells > 0) request.set_cells(options.cells);
  if (options.symbols > 0) request.set_symbols(options.symbols);
  request.set_repeat(options.repeat);
  return request;
}

std::string HaltWord(v1::ExecuteResult::Halt halt) { return absl::AsciiStrToLower(v1::ExecuteResult::Halt_Name(halt)); }

std::string ToText(const v1::ExecuteResult& result) {
  return absl::StrFormat("# program %d: %d symbols written in %d steps, %s\n%s\n", result.program(),
                         result.output().size(), result.steps(), HaltWord(result.halt()),
                         absl::CHexEscape(result.output()));
}

std::string ToJsonLine(const v1::ExecuteResult& result) {
  nlohmann::ordered_json json = {
      {"program", result.program()}, {"steps", result.steps()}, {"halt", HaltWord(result.halt())}};
  json["output"] = nlohmann::ordered_json::array();
  for (const char symbol : result.output()) json["output"].push_back(static_cast<unsigned char>(symbol));
  return json.dump() + "\n";
}

absl::Status Execute(const ExecuteOptions& options) {
  const absl::StatusOr<v1::ExecuteRequest> request = MakeRequest(options);
  if (!request.ok()) return request.status();
  absl::Status written;
  const auto write = [&](const v1::ExecuteResult& result) {
    written = WriteOutput(options.format == "raw"     ? result.output()
                          : options.format == "jsonl" ? ToJsonLine(result)
                                                      : ToText(result));
    return written.ok();
  };
  if (!options.server.address.empty()) {
    const absl::StatusOr<std::unique_ptr<RpcClient>> client = options.server.Connect();
    if (!client.ok()) return client.status();
    const absl::Status status = (*client)->Execute(*request, write);
    return written.ok() ? options.server.Annotate(status) : written;
  }
  absl::StatusOr<Execution> execution = Execution::Make(*request);
  if (!execution.ok()) return execution.status();
  v1::ExecuteResponse response;
  while (!execution->done()) {
    response.Clear();
    execution->Advance(response);
    for (const v1::ExecuteResult& result : response.results()) {
      if (!write(result)) return written;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddExecute(CLI::App& app, Action& action) {
  auto options = std::make_shared<ExecuteOptions>();
  CLI::App* command = app.add_subcommand("execute", "Run programs on the byte machine of the family tape_machine");
  command->footer(
      R"(Instructions: + - change the cell, > < move on the circular tape, . writes the cell, , reads the input tape,
[ ] loop while the cell is not 0. The input tape begins again after its end; an empty one reads as 0.
A text that begins with - follows after --. An empty file is an empty program or an empty tape, and a blank line of a
list an empty program.
Formats: text is a line on each run, then its output, escaped. raw is the output alone. jsonl is one object per
program: program, steps, halt (ended, step_limit, output_limit), output.)");
  command->add_option("PROGRAM", options->programs, "Texts of programs")->type_name("");
  command->add_option("--file", options->program_file, "A file that is one program")->type_name("FILE");
  command->add_option("--list", options->list_file, "A file with a program in each line, blank ones too")
      ->type_name("FILE");
  CLI::Option* const input = command->add_option("--input", options->input, "Input tape, as text")->type_name("TEXT");
  CLI::Option* const file =
      command->add_option("--input-file", options->input_file, "Input tape: the bytes of a file")->type_name("FILE");
  CLI::Option* const seed =
      command
          ->add_option("--input-seed", options->input_seed, "Random input tapes: of program i, that of the seed S + i")
          ->type_name("S")
          ->check(WholeNumber(0, kMaxUint64));
  input->excludes(file)->excludes(seed);
  file->excludes(seed);
  command->add_option("--max-steps", options->max_steps, "Instructions a program may execute [65536]")
      ->type_name("N")
      ->check(WholeNumber(1, kMaxExecuteSteps));
  command->add_option("--max-output", options->max_output, "Symbols that a program may write [4096]")
      ->type_name("N")
      ->check(WholeNumber(1, kMaxExecuteOutput));
  command->add_option("--cells", options->cells, "Cells of the tape [64]")
      ->type_name("N")
      ->check(WholeNumber(1, 65536));
  command->add_option("--symbols", options->symbols, "Values of a cell [256]")
      ->type_name("N")
      ->check(WholeNumber(2, 256));
  command->add_flag("--repeat", options->repeat, "A program that ends begins again on the same tape");
  command->add_option("--format", options->format, "text, raw or jsonl")
      ->check(OneOf({"text", "raw", "jsonl"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  options->server.AddTo(*command);
  command->callback([options, seed, &action] {
    options->has_input_seed = seed->count() > 0;
    action = [options] { return Execute(*options); };
  });
}

}  // namespace iterand::cli
