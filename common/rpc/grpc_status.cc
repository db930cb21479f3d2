#include "common/rpc/grpc_status.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "common/printable.h"
#include "common/rpc/error_info.h"
#include "common/shorten.h"
#include "iterand/v1/errors.pb.h"

namespace iterand {
namespace {

// Bytes of a header with this text. gRPC escapes most characters that are not printable ASCII by three bytes.
std::size_t HeaderBytes(absl::string_view text) {
  std::size_t bytes = 0;
  for (const char character : text) {
    bytes += absl::ascii_isprint(static_cast<unsigned char>(character)) && character != '%' ? 1 : 3;
  }
  return bytes;
}

// Details are sent as base64.
std::string Details(const absl::Status& status, const absl::Cord& info, const std::string& message) {
  v1::RichStatus rich;
  rich.set_code(static_cast<int>(status.code()));
  rich.set_message(message);
  google::protobuf::Any& detail = *rich.add_details();
  detail.set_type_url(kErrorInfoType);
  detail.set_value(std::string(info));
  return rich.SerializeAsString();
}

// An ErrorInfo from elsewhere. Nothing if the text is none.
absl::Cord SafeInfo(const std::string& serialized) {
  v1::ErrorInfo info;
  if (!info.ParseFromString(serialized)) return absl::Cord();
  v1::ErrorInfo safe;
  safe.set_reason(Printable(info.reason()));
  safe.set_domain(Printable(info.domain()));
  for (const auto& [key, value] : info.metadata()) (*safe.mutable_metadata())[Printable(key)] = Printable(value);
  const std::string payload = safe.SerializeAsString();
  return absl::Cord(absl::string_view(payload));  // a view, as in error_info.cc
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const auto info = status.GetPayload(kErrorInfoType);
  const std::string whole(status.message());
  std::string message;
  for (std::size_t most = whole.size();; most -= most / 4 + 1) {
    message = Shorten(whole, most);
    const std::string details = info ? Details(status, *info, message) : std::string();
    if (most == 0 || HeaderBytes(message) + (details.size() + 2) / 3 * 4 <= kMaxStatusHeader) {
      return {code, message, details};
    }
  }
}

absl::Status ToAbsl(const grpc::Status& status) {
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), Printable(status.error_message()));
  v1::RichStatus rich;
  if (result.ok() || !rich.ParseFromString(status.error_details())) return result;
  for (const google::protobuf::Any& detail : rich.details()) {
    if (detail.type_url() != kErrorInfoType) continue;
    if (const absl::Cord info = SafeInfo(detail.value()); !info.empty()) result.SetPayload(kErrorInfoType, info);
    break;
  }
  return result;
}

}  // namespace iterand
