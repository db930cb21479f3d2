// What Describe answers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "iterand/v1/noise_service.pb.h"
#include "iterate/stream.h"

namespace iterand {

v1::Dtype ToProto(Dtype dtype);

// Engine version, presets and families.
void DescribeServer(v1::DescribeResponse& response);

// What a stream's recipe resolves to, and what it costs. Not max_batch_size, which is a server's. Descriptions and
// names of parts are those of the requested recipe: the fingerprint leaves them out, so the stream's may differ. Shares
// and cost of a mixture are those at index `at`.
void DescribeStream(const Stream& stream, const v1::Recipe& asked, std::uint64_t at, v1::StreamInfo& info);

// Names of the parts of a mixture, as the requested recipe has them; empty if it is not a mixture.
std::vector<std::string> AskedPartNames(const Stream& stream, const v1::Recipe& asked);

}  // namespace iterand
