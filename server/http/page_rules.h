// Which requests the page's server answers, by their heads alone.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "server/http/exchange.h"

namespace iterand {

struct PageRules {
  bool is_public = false;  // other machines can connect
  bool encrypted = false;
  // Whether the value of the header "authorization" has a token of the server, or none is needed.
  std::function<absl::Status(std::string_view authorization)> check_token;
  // Whether a path exists, for GET or for POST.
  std::function<bool(std::string_view path)> has_get;
  std::function<bool(std::string_view path)> has_post;
};

// The answer to a request that is refused; nothing if it is admitted.
//   400  no host
//   401  a path under /api/ without a token of the server
//   403  the host is not a loopback name though the server is not public (a foreign name that was made to resolve to
//   this
//        machine), or another site sent the request
//   404  no such path
//   405  the path exists for the other method only
//   415  the body is not JSON. Other sites can send other types without asking first
std::optional<HttpResponse> JudgeRequest(const HttpHead& head, const PageRules& rules);

// An error as the page reads it: {"error": {"message": ..., "reason": ..., "field": ..., "line": ..., "column": ...}}
// with an HTTP status that follows from the code. "field" is the path that the message begins with. "line" and "column"
// are those of broken JSON.
HttpResponse ErrorResponse(const absl::Status& status);

}  // namespace iterand
