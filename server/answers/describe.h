// What Describe answers.
#pragma once

#include "iterand/v1/noise_service.pb.h"
#include "iterate/stream.h"

namespace iterand {

v1::Dtype ToProto(Dtype dtype);

// Engine version, presets and families.
void DescribeServer(v1::DescribeResponse& response);

// What a stream's recipe resolves to, and what it costs. Not max_batch_size, which is a server's.
// The description is that of the recipe that was asked for: the fingerprint leaves it out, so the stream's may be
// another.
void DescribeStream(const Stream& stream, const v1::Recipe& asked, v1::StreamInfo& info);

}  // namespace iterand
