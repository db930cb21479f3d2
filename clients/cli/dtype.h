// Names of the types of tokens.
#pragma once

#include <string>

#include "iterate/dtype.h"

namespace iterand::cli {

// "uint8", "uint16", "uint32".
inline std::string DtypeName(Dtype dtype) {
  switch (dtype) {
    case Dtype::kUint8:
      return "uint8";
    case Dtype::kUint16:
      return "uint16";
    default:
      return "uint32";
  }
}

}  // namespace iterand::cli
