#include "common/rpc/error_info.h"

#include <utility>

#include "absl/strings/cord.h"
#include "common/shorten.h"

namespace iterand {
namespace {

constexpr char kDomain[] = "iterand";
constexpr std::size_t kMaxValue = 256;

}  // namespace

absl::Status WithReason(v1::ErrorReason reason, absl::Status status,
                        std::initializer_list<std::pair<absl::string_view, absl::string_view>> metadata) {
  v1::ErrorInfo info;
  info.set_reason(v1::ErrorReason_Name(reason));
  info.set_domain(kDomain);
  for (const auto& [key, value] : metadata) {
    (*info.mutable_metadata())[std::string(key)] = Shorten(std::string(value), kMaxValue);
  }
  // A view: gcc and clang name the constructor from a string differently, and the library was built by gcc.
  const std::string payload = info.SerializeAsString();
  status.SetPayload(kErrorInfoType, absl::Cord(absl::string_view(payload)));
  return status;
}

absl::Status WithDefaultReason(v1::ErrorReason reason, absl::Status status) {
  if (status.ok() || status.GetPayload(kErrorInfoType)) return status;
  return WithReason(reason, std::move(status));
}

absl::Status InvalidField(const std::string& field, const std::string& message) {
  return WithReason(v1::INVALID_REQUEST, absl::InvalidArgumentError(message), {{"field", field}});
}

std::optional<ErrorInfo> ErrorInfoOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kErrorInfoType);
  v1::ErrorInfo info;
  if (!payload || !info.ParseFromString(std::string(*payload)) || info.domain() != kDomain) return std::nullopt;
  return ErrorInfo{info.reason(), {info.metadata().begin(), info.metadata().end()}};
}

v1::ErrorReason ReasonOf(const absl::Status& status) {
  const std::optional<ErrorInfo> info = ErrorInfoOf(status);
  v1::ErrorReason reason = v1::ERROR_REASON_UNSPECIFIED;
  if (info) v1::ErrorReason_Parse(info->reason, &reason);
  return reason;
}

}  // namespace iterand
