#include "server/connection_judge.h"

#include <algorithm>

namespace iterand {
namespace {

// Honest clients stay far below all of these. A reader of a stream sends about a byte of window updates for a thousand
// bytes that it receives. A call of a few hundred bytes accounts for itself.
constexpr double kFloodBytes = 2 << 20;
constexpr double kFloodBytesPerSecond = 64 << 10;
constexpr double kReceivedPerByteSent = 1.0 / 16;
constexpr double kStuckBytes = 2 << 20;
constexpr double kFloodFree = 16 << 10;           // a handshake of TLS
constexpr double kStuckFree = 64 << 10;           // pings of an idle connection, for months
constexpr double kFrameOverhead = 1.0 / 16;       // of a request's bytes: frames, and records of TLS
constexpr double kRequestsOnTheirWay = 96 << 20;  // more than the service reads at a time
constexpr double kAwaitedForgottenPerSecond = 8 << 20;
constexpr double kResets = 500;
constexpr double kResetsOfStrangers = 100;
constexpr double kResetsPerSecond = 100;
constexpr double kUnauthenticated = 200;
constexpr double kUnauthenticatedPerSecond = 20;
constexpr double kStrict = 0.1;                   // of the above, for peers that were recently closed for cause
constexpr std::uint64_t kCallsOfStrangers = 128;  // a client may open many before the first is seen
constexpr std::uint64_t kSlackCalls = 64;         // that have ended, but still wait to be released

// What `level` is after `more`, at `rate` per second.
void Fill(double& level, double more, double rate, double seconds) {
  level = std::max(0.0, level - rate * seconds) + std::max(0.0, more);
}

}  // namespace

std::optional<ConnectionEnd> ConnectionJudge::Judge(const ConnectionCounts& counts, Time now, bool lenient) {
  const double seconds = std::chrono::duration<double>(now - then_).count();
  const double part = lenient ? 1 : kStrict;
  const bool stranger = counts.stranger();
  const auto since = [](std::uint64_t value, std::uint64_t before) {
    return value > before ? static_cast<double>(value - before) : 0;
  };
  const double received = since(counts.bytes_in, before_.bytes_in);
  const double sent = since(counts.bytes_out, before_.bytes_out);
  const double accounted = since(counts.accounted_bytes, before_.accounted_bytes);
  // A request that is being received accounts for its bytes only when it is complete.
  flood_ = std::max(0.0, flood_ + received - accounted * (1 + kFrameOverhead) - sent * kReceivedPerByteSent -
                             kFloodBytesPerSecond * seconds);
  const bool progress = counts.started != before_.started || counts.succeeded != before_.succeeded ||
                        counts.failed != before_.failed || counts.messages != before_.messages ||
                        counts.accounted_bytes != before_.accounted_bytes;
  stuck_ = progress ? 0 : std::max(0.0, stuck_ + received - sent * kReceivedPerByteSent);
  Fill(resets_, since(counts.failed, before_.failed), kResetsPerSecond, seconds);
  Fill(unauthenticated_, since(counts.unauthenticated, before_.unauthenticated), kUnauthenticatedPerSecond, seconds);
  then_ = now;
  before_ = counts;

  // A client may continue to send after its call has ended, until it learns of the end.
  awaited_ = std::max(std::min(kRequestsOnTheirWay, static_cast<double>(counts.awaited_bytes)),
                      awaited_ - kAwaitedForgottenPerSecond * seconds);
  const double requests = awaited_ * (1 + kFrameOverhead);
  unaccounted_ = std::max({0.0, flood_ - requests - kFloodFree, stuck_ - requests - kStuckFree});
  const std::uint64_t calls = stranger ? kCallsOfStrangers : static_cast<std::uint64_t>(limits_.streams);
  if (counts.open() > calls + kSlackCalls) return ConnectionEnd::kCalls;
  if (resets_ > (stranger ? kResetsOfStrangers : kResets) * part) return ConnectionEnd::kResets;
  if (unauthenticated_ > kUnauthenticated * part) return ConnectionEnd::kUnauthenticated;
  if (flood_ - requests > kFloodBytes * part || stuck_ - requests > kStuckBytes * part) return ConnectionEnd::kFlood;
  return std::nullopt;
}

}  // namespace iterand
