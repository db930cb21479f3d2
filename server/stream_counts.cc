#include "server/stream_counts.h"

#include <grpc/grpc.h>
#include <grpc/support/alloc.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace iterand {
namespace {

// gRPC numbers connections before it lists them, so some may be listed late.
constexpr std::int64_t kListedLate = 256;
constexpr std::size_t kMostFound = 16384;

std::string Take(char* json) {
  std::string text = json == nullptr ? "" : json;
  gpr_free(json);
  return text;
}

// Returns the string value of the next `"key":"VALUE"` from `position` on, and moves `position` past it; empty at the
// end. The values that are read here have no escapes.
absl::string_view Next(absl::string_view json, absl::string_view key, std::size_t& position) {
  const std::size_t at = json.find(key, position);
  if (at == absl::string_view::npos) return {};
  const std::size_t begin = at + key.size();
  const std::size_t end = json.find('"', begin);
  if (end == absl::string_view::npos) return {};
  position = end;
  return json.substr(begin, end - begin);
}

std::uint64_t Number(absl::string_view json, absl::string_view key) {
  std::size_t position = 0;
  std::uint64_t value = 0;
  return absl::SimpleAtoi(Next(json, key, position), &value) ? value : 0;
}

}  // namespace

std::int64_t StreamCounter::Find(const std::string& peer) {
  auto found = found_.find(peer);
  if (found == found_.end()) {
    if (refreshed_) return 0;
    refreshed_ = true;
    Refresh();
    found = found_.find(peer);
    if (found == found_.end()) return 0;
  }
  const std::int64_t connection = found->second;
  found_.erase(found);
  return connection;
}

void StreamCounter::Refresh() {
  if (found_.size() > kMostFound) found_.clear();
  const std::string servers = Take(grpc_channelz_get_servers(0));
  std::size_t at = 0;
  std::int64_t newest = newest_;
  for (absl::string_view id = Next(servers, "\"serverId\":\"", at); !id.empty();
       id = Next(servers, "\"serverId\":\"", at)) {
    std::int64_t server = 0;
    if (!absl::SimpleAtoi(id, &server)) continue;
    std::int64_t first = std::max<std::int64_t>(0, newest_ - kListedLate);
    for (bool more = true; more;) {
      const std::string sockets = Take(grpc_channelz_get_server_sockets(server, first, 500));
      more = !sockets.empty() && !absl::StrContains(sockets, "\"end\":true");
      std::size_t position = 0;
      // Of each: {"name":"chttp2 PEER","socketId":"N"}.
      for (;;) {
        const absl::string_view name = Next(sockets, "\"name\":\"", position);
        std::int64_t socket = 0;
        if (name.empty() || !absl::SimpleAtoi(Next(sockets, "\"socketId\":\"", position), &socket)) break;
        newest = std::max(newest, socket);
        first = socket + 1;
        const std::size_t space = name.find(' ');
        if (space != absl::string_view::npos) found_[std::string(name.substr(space + 1))] = socket;
      }
      if (position == 0) more = false;
    }
  }
  newest_ = newest;
}

std::optional<StreamCounts> StreamCounter::Read(std::int64_t connection) {
  const std::string json = Take(grpc_channelz_get_socket(connection));
  if (json.empty()) return std::nullopt;
  return StreamCounts{.started = Number(json, "\"streamsStarted\":\""),
                      .succeeded = Number(json, "\"streamsSucceeded\":\""),
                      .failed = Number(json, "\"streamsFailed\":\""),
                      .messages = Number(json, "\"messagesReceived\":\"")};
}

}  // namespace iterand
