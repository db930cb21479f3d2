// The machine-readable reason of an error, as proto/iterand/v1/errors.proto defines it.
//
//   absl::Status status = client->Describe(request).status();
//   if (ReasonOf(status) == v1::UNKNOWN_PRESET) ...  // ErrorInfoOf(status)->metadata.at("preset")
//
// A status carries its ErrorInfo as a payload of the type "type.googleapis.com/google.rpc.ErrorInfo". Other projects
// see only iterand/error.h.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "iterand/error.h"
#include "iterand/v1/errors.pb.h"

namespace iterand {

// The type of an ErrorInfo, as a payload of a status and in the details of a RichStatus.
inline constexpr char kErrorInfoType[] = "type.googleapis.com/google.rpc.ErrorInfo";

// `status` with a reason. Requires that it is not OK. Values are shortened to 256 bytes.
absl::Status WithReason(v1::ErrorReason reason, absl::Status status,
                        std::initializer_list<std::pair<absl::string_view, absl::string_view>> metadata = {});

// `status` with a reason, unless it is OK or has one already.
absl::Status WithDefaultReason(v1::ErrorReason reason, absl::Status status);

// InvalidArgument with the reason INVALID_REQUEST. `field` is the path of the field that is to blame.
absl::Status InvalidField(const std::string& field, const std::string& message);

// The reason of an error. ERROR_REASON_UNSPECIFIED if it has none, or one that this version does not know.
v1::ErrorReason ReasonOf(const absl::Status& status);

}  // namespace iterand
