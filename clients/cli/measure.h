// How fast a stream is made on this machine.
#pragma once

#include <memory>

#include "iterate/plan.h"

namespace iterand::cli {

// Tokens that one core makes of a stream, per second. It is the mean over whole segments, one of each lane in turn,
// that are made in about `seconds` of core time. It is 0 if the first segment was not made within `patience` seconds,
// or if the stream's filters starve. Mixtures are measured part by part: `plan` must not be one.
double MeasureTokensPerSecond(const std::shared_ptr<const StreamPlan>& plan, double seconds, double patience);

}  // namespace iterand::cli
