// The strategy that a plan has: a chain or a pool.
#pragma once

#include <memory>

#include "iterate/iteration.h"
#include "iterate/plan.h"

namespace iterand {

// `plan` must outlive the iteration.
std::unique_ptr<Iteration> MakeIteration(const StreamPlan& plan);

}  // namespace iterand
