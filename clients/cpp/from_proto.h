// Converts values of the service's messages to the public types. Internal to the client library.
#pragma once

#include <optional>

#include "iterand/types.h"
#include "iterand/v1/noise_service.pb.h"

namespace iterand {

// Nothing for a value that this program does not know.
inline std::optional<Dtype> FromProto(v1::Dtype dtype) {
  switch (dtype) {
    case v1::DTYPE_UINT8:
      return Dtype::kUint8;
    case v1::DTYPE_UINT16:
      return Dtype::kUint16;
    case v1::DTYPE_UINT32:
      return Dtype::kUint32;
    default:
      return std::nullopt;
  }
}

inline Provenance FromProto(const v1::Provenance& from) {
  return {.lane = from.lane(),
          .segment = from.segment(),
          .round = from.round(),
          .row = from.row(),
          .family = from.family(),
          .depth = from.depth(),
          .part = from.part()};
}

}  // namespace iterand
