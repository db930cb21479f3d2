// The server's log: lines on standard error, quiet but for start, stop, and calls and replays that somebody may ask
// about.
#pragma once

#include <spdlog/logger.h>

namespace iterand {

// Made at the first call; standard output is the caller's.
spdlog::logger& Log();

}  // namespace iterand
