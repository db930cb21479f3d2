// What the page's paths under /api/ answer. docs/page.md describes them.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/engine/engine.h"
#include "server/http/exchange.h"
#include "server/http/page_requests.h"
#include "server/live_rows.h"
#include "server/server_stats.h"

namespace iterand {

// Limits of one request.
inline constexpr std::uint64_t kMaxPageRows = 64;
inline constexpr std::uint64_t kMaxPageTokens = 1 << 18;  // of all rows together
inline constexpr std::uint64_t kMaxStatisticsRows = 256;
inline constexpr auto kPagePatience = std::chrono::seconds(10);
inline constexpr double kMaxExplainBytes = 64.0 * (1 << 20);  // workspace and segment of a stream to be explained

// Thread-safe.
class PageApi {
 public:
  // All must outlive this object.
  PageApi(Engine* engine, std::function<ServerStats()> stats, LiveRows* live)
      : engine_(*engine), stats_(std::move(stats)), live_(*live) {}

  static bool HasGet(std::string_view path);
  static bool HasPost(std::string_view path);

  // What an answer takes: milliseconds, a wait for the engine, that and some computation, or sequences that the calling
  // thread makes.
  enum class Work { kLittle, kPreview, kStatistics, kExplanation };
  static Work WorkOf(std::string_view path);

  // Answers, on the calling thread.
  void Answer(HttpExchange& exchange) const;

 private:
  using Result = absl::StatusOr<nlohmann::ordered_json>;

  Result Presets() const;
  Result Live() const;
  Result Describe(HttpExchange& exchange) const;
  Result Preview(HttpExchange& exchange) const;
  Result Statistics(HttpExchange& exchange) const;
  Result Explain(HttpExchange& exchange) const;
  Result Dispatch(HttpExchange& exchange) const;

  absl::StatusOr<std::shared_ptr<SharedStream>> Open(const PageRequest& request, v1::Recipe* asked = nullptr) const;

  Engine& engine_;
  const std::function<ServerStats()> stats_;
  LiveRows& live_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace iterand
