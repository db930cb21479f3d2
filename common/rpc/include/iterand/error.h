// The machine-readable reason of a server's error. Messages are for people and may change; reasons keep their names.
//
//   if (auto info = iterand::ErrorInfoOf(status); info && info->reason == "UNKNOWN_PRESET") {
//     std::cerr << info->metadata.at("preset");
//   }
#pragma once

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace iterand {

struct ErrorInfo {
  // The name of a value of ErrorReason in proto/iterand/v1/errors.proto, which lists all and their metadata.
  std::string reason;

  // Such as {"field": "shard.rank"}. Values have at most 256 bytes and "...".
  std::map<std::string, std::string> metadata;
};

// Nothing if the error has no reason, like one of a proxy or of an older server: then its code decides. A reason may be
// one that this version does not know.
std::optional<ErrorInfo> ErrorInfoOf(const absl::Status& status);

}  // namespace iterand
