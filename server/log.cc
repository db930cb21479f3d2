#include "server/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/printable.h"

namespace iterand {
namespace {

// The text of a line, which may quote what a client sent: a recipe, a preset's name, its address.
class PrintableText final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/, spdlog::memory_buf_t& line) override {
    const std::string text = Printable(std::string_view(message.payload.data(), message.payload.size()));
    line.append(text.data(), text.data() + text.size());
  }

  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<PrintableText>(); }
};

}  // namespace

void SetLogFormat(spdlog::sinks::sink& sink) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<PrintableText>('*').set_pattern("[%Y-%m-%d %H:%M:%S.%e] [%n] [%l] %*");
  sink.set_formatter(std::move(formatter));
}

spdlog::logger& Log() {
  // Never destroyed: threads of the server may log until the process ends.
  static spdlog::logger& logger = [&]() -> spdlog::logger& {
    const auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    SetLogFormat(*sink);
    return *new spdlog::logger("iterand", sink);
  }();
  return logger;
}

}  // namespace iterand
