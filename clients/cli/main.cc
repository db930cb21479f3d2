// The one command, `iterand`: parses the command line, runs a subcommand, turns its status into an exit status.

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/output.h"
#include "common/printable.h"
#include "iterate/stream.h"

namespace iterand::cli {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;
constexpr int kExitInterrupted = 130;  // what shells report for a command ended by Ctrl-C; also after SIGTERM

// A file that is opened while one of the descriptors 0 to 2 is closed would get that number. It would then receive what
// is written to standard output or standard error. Each is therefore opened, in the direction in which using it fails.
void OccupyStandardDescriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) != -1) continue;
    if (open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY) != descriptor) std::_Exit(kExitFailure);
  }
}

int PrintError(const std::string& message, int exit_code) {
  std::fprintf(stderr, "iterand: %s\n", Printable(message).c_str());
  return exit_code;
}

int ExitCode(const absl::Status& status) {
  if (status.ok() || IsBrokenPipe(status)) return 0;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kAlreadyExists:
      return PrintError(std::string(status.message()), kExitUsage);
    case absl::StatusCode::kCancelled:
      return PrintError(std::string(status.message()), kExitInterrupted);
    default:
      return PrintError(std::string(status.message()), kExitFailure);
  }
}

int Run(int argc, char** argv) {
  OccupyStandardDescriptors();
  // A reader that goes away, as in `iterand sample ... | head`, is an error of the write call and not a signal.
  std::signal(SIGPIPE, SIG_IGN);
  // Likewise a file that grows beyond `ulimit -f`.
  std::signal(SIGXFSZ, SIG_IGN);
  // gRPC's own log lines on standard error repeat, less clearly, what our errors say. GRPC_VERBOSITY brings them back.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);

  CLI::App app(
      "Endless streams of structured noise for pretraining: random programs and networks, chained over noise.");
  app.name("iterand");
  app.set_version_flag("--version",
                       absl::StrCat("iterand ", ITERAND_VERSION, " (engine version ", kEngineVersion, ")"));
  app.require_subcommand(0, 1);  // without any, our own message below is printed
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(
      R"(RECIPE is the name of a preset (`iterand presets` lists them) or the path of a JSON file, which has a / in it or
ends in .json.
Exit status: 0 done, 1 a failure while running, 2 a wrong request, 130 a dump that Ctrl-C or SIGTERM ended.
Errors are one line on standard error.)");
  Action action;
  AddServe(app, action);
  AddPresets(app, action);
  AddDescribe(app, action);
  AddSample(app, action);
  AddInspect(app, action);
  AddDump(app, action);
  AddExplain(app, action);
  AddExecute(app, action);

  try {
    ParseCommandLine(app, argc, argv);
  } catch (const CLI::Success& help) {  // --help, --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::string command = "iterand";
    for (const CLI::App* chosen : app.get_subcommands()) absl::StrAppend(&command, " ", chosen->get_name());
    return PrintError(absl::StrCat(UsageMistake(app, error), " (", command, " --help shows the usage)"), kExitUsage);
  }
  if (action == nullptr) {
    return PrintError(
        "a command is missing: serve, presets, describe, sample, inspect, dump, explain or execute (see iterand "
        "--help)",
        kExitUsage);
  }
  absl::Status status = action();
  if (status.ok()) status = FlushOutput();
  return ExitCode(status);
}

}  // namespace
}  // namespace iterand::cli

int main(int argc, char** argv) {
  try {
    return iterand::cli::Run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "iterand: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "iterand: internal error: %s\n", iterand::Printable(error.what()).c_str());
  }
  return 1;
}
