// Values of a stream as messages of the service have them.
#pragma once

#include "iterand/v1/noise_service.pb.h"
#include "iterate/dtype.h"

namespace iterand {

v1::Dtype ToProto(Dtype dtype);

}  // namespace iterand
