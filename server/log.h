// The server's log: lines on standard error. It is quiet, except for start, stop, and calls and replays that somebody
// may ask about.
#pragma once

#include <spdlog/logger.h>
#include <spdlog/sinks/sink.h>

namespace iterand {

// Made at the first call; standard output is the caller's. Each entry is one line and harmless to a terminal, whatever
// text of a client it quotes.
spdlog::logger& Log();

// Gives another sink of the log its format.
void SetLogFormat(spdlog::sinks::sink& sink);

}  // namespace iterand
