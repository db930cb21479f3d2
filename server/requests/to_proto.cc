#include "server/requests/to_proto.h"

namespace iterand {

v1::Dtype ToProto(Dtype dtype) {
  switch (dtype) {
    case Dtype::kUint8:
      return v1::DTYPE_UINT8;
    case Dtype::kUint16:
      return v1::DTYPE_UINT16;
    case Dtype::kUint32:
      return v1::DTYPE_UINT32;
  }
  return v1::DTYPE_UNSPECIFIED;
}

}  // namespace iterand
