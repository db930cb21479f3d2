// The stream that a request names. Errors here carry their reason (common/rpc/error_info.h).
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/stream.h"

namespace iterand {

// The recipe that a stream's description names, with the length and the mask it asks for. Errors: InvalidArgument if
// there is no recipe or its JSON is broken, NotFound for an unknown preset.
absl::StatusOr<v1::Recipe> NamedRecipe(const v1::StreamSpec& spec);

// FailedPrecondition if the client expects another fingerprint, InvalidArgument if what it expects is not one.
absl::Status CheckFingerprint(const v1::StreamSpec& spec, const Stream& stream);

}  // namespace iterand
