#include "server/http/page_rules.h"

#include <cctype>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "nlohmann/json.hpp"

namespace iterand {
namespace {

HttpResponse Refuse(int status, const std::string& message) {
  const nlohmann::ordered_json json = {{"error", {{"message", message}}}};
  return {.status = status, .body = json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)};
}

// A host as browsers send it, without the port.
std::string_view WithoutPort(std::string_view host) {
  const std::size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || host.find(']', colon) != std::string_view::npos) return host;
  return host.substr(0, colon);
}

bool IsLoopbackName(std::string_view host) {
  const std::string name(WithoutPort(host));
  if (absl::EqualsIgnoreCase(name, "localhost") || name == "[::1]") return true;
  if (!name.starts_with("127.")) return false;
  return name.find_first_not_of("0123456789.") == std::string_view::npos;
}

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kResourceExhausted:
      return 422;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

// "families[0].lstm.hidden" of "families[0].lstm.hidden: is 0, ..." and of "families[0].lstm: has no field "hidden"".
std::string FieldOf(std::string_view message) {
  const auto is_path = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_.[]").find(c) != std::string_view::npos;
  };
  std::size_t end = 0;
  while (end < message.size() && is_path(message[end])) ++end;
  std::string_view rest = message.substr(end);
  if (end == 0 || !(rest.starts_with(": ") || rest.starts_with(" \""))) return "";
  std::string field(message.substr(0, end));
  constexpr std::string_view kUnknown = ": has no field \"";
  if (rest.starts_with(kUnknown)) {
    rest.remove_prefix(kUnknown.size());
    absl::StrAppend(&field, ".", std::string(rest.substr(0, rest.find('"'))));
  }
  return field;
}

// The number after `label`, or 0.
int NumberAfter(std::string_view message, std::string_view label) {
  const std::size_t at = message.find(label);
  if (at == std::string_view::npos) return 0;
  const std::string_view digits = message.substr(at + label.size());
  int number = 0;
  return absl::SimpleAtoi(std::string(digits.substr(0, digits.find_first_not_of("0123456789"))), &number) ? number : 0;
}

std::optional<HttpResponse> JudgeSite(const HttpHead& head, const PageRules& rules) {
  if (head.host.empty()) return Refuse(400, "the request has no Host header, must name this server");
  if (!rules.is_public && !IsLoopbackName(head.host)) {
    return Refuse(403, "this server answers to localhost and loopback addresses only: a proxy must send such a host");
  }
  const bool is_api = absl::StartsWith(head.path, "/api/");
  const std::string own = absl::StrCat(rules.encrypted ? "https://" : "http://", head.host);
  if (!head.origin.empty() && !absl::EqualsIgnoreCase(head.origin, own)) {
    return Refuse(403, "the request comes from another site, must come from this server's page");
  }
  // A link elsewhere may lead to the page. Only the page itself asks for data.
  if (is_api && !head.fetch_site.empty() && head.fetch_site != "same-origin" && head.fetch_site != "none") {
    return Refuse(403, "the request comes from another site, must come from this server's page");
  }
  return std::nullopt;
}

}  // namespace

std::optional<HttpResponse> JudgeRequest(const HttpHead& head, const PageRules& rules) {
  if (std::optional<HttpResponse> refusal = JudgeSite(head, rules)) return refusal;
  const bool get = rules.has_get(head.path);
  const bool post = rules.has_post(head.path);
  if (!get && !post) return Refuse(404, "the path does not exist, must be / or one that the page uses");
  if (!(get && head.method == "GET") && !(post && head.method == "POST")) {
    return Refuse(405, absl::StrCat("this path takes ", get ? "GET" : "POST"));
  }
  if (absl::StartsWith(head.path, "/api/")) {
    if (const absl::Status status = rules.check_token(head.authorization); !status.ok()) return ErrorResponse(status);
  }
  if (post && !absl::EqualsIgnoreCase(head.content_type, "application/json")) {
    return Refuse(415, "the body must be of the type application/json");
  }
  return std::nullopt;
}

HttpResponse ErrorResponse(const absl::Status& status) {
  const std::string message(status.message());
  nlohmann::ordered_json error = {{"message", message}};
  if (const v1::ErrorReason reason = ReasonOf(status); reason != v1::ERROR_REASON_UNSPECIFIED) {
    error["reason"] = v1::ErrorReason_Name(reason);
  }
  if (absl::IsInvalidArgument(status) || absl::IsNotFound(status)) {
    if (const std::string field = FieldOf(message); !field.empty()) error["field"] = field;
    if (const int line = NumberAfter(message, "line "); line > 0) {
      error["line"] = line;
      error["column"] = NumberAfter(message, ", column ");
    }
  }
  const nlohmann::ordered_json json = {{"error", std::move(error)}};
  return {.status = HttpStatus(status.code()),
          .body = json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)};
}

}  // namespace iterand
