// The life of `iterand serve`: a server from its start to a signal.
#pragma once

#include <ostream>

#include "absl/status/status.h"
#include "server/server.h"

namespace iterand::cli {

// Starts a server and prints "listening on ADDRESS" to `out` (and "metrics on ADDRESS", if the options ask for
// metrics). SIGHUP makes the server read its certificate, key and tokens again (Server::Reload), also before it is
// ready, and does nothing once it drains. On SIGTERM, SIGINT or the loss of its terminal it drains the server and
// returns Ok. A second signal (see clients/cli/second_signal.h) ends the process with status 0, also after the return.
// Call it before other threads are made: it blocks the three signals in the calling thread, and threads inherit that.
// Errors: those of Server::Start.
absl::Status RunUntilSignal(const ServerOptions& options, std::ostream& out);

}  // namespace iterand::cli
