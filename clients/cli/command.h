// The subcommands of `iterand`, one file each. Every Add function describes its subcommand and its options to the
// parser. If the user chooses the subcommand, the function stores what is to be done in `action`.
//
// Exit status of every command: 0 done; 1 something failed while it ran (a server that is gone, a full disk, a filter
// that starves); 2 the request itself was wrong (options, recipe, shard, another stream's dump); 130 Ctrl-C or SIGTERM
// ended a dump, which the same command continues. Every error is one line on standard error, "iterand: ...".
#pragma once

#include <functional>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace iterand::cli {

using Action = std::function<absl::Status()>;

void AddServe(CLI::App& app, Action& action);
void AddPresets(CLI::App& app, Action& action);
void AddDescribe(CLI::App& app, Action& action);
void AddInspect(CLI::App& app, Action& action);
void AddSample(CLI::App& app, Action& action);
void AddDump(CLI::App& app, Action& action);
void AddExplain(CLI::App& app, Action& action);
void AddExecute(CLI::App& app, Action& action);

}  // namespace iterand::cli
