#include "iterate/make_iteration.h"

#include "iterate/chain.h"
#include "iterate/pool.h"

namespace iterand {

std::unique_ptr<Iteration> MakeIteration(const StreamPlan& plan) {
  if (plan.pool() != nullptr) return std::make_unique<Pool>(plan);
  return std::make_unique<Chain>(plan);
}

}  // namespace iterand
