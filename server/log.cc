#include "server/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <memory>

namespace iterand {

spdlog::logger& Log() {
  // Never destroyed: threads of the server may log until the process ends.
  static spdlog::logger& logger = *new spdlog::logger("iterand", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  return logger;
}

}  // namespace iterand
