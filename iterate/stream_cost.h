// What a stream costs, estimated from its recipe.
#pragma once

#include <cstdint>

namespace iterand {

class FamilyMix;
class MixturePlan;
class ResolvedRecipe;

struct StreamCost {
  double flops_per_token = 0;               // of a mixture, at index 0
  std::uint64_t segment_bytes = 0;          // tokens and mask of one segment
  std::uint64_t first_batch_sequences = 0;  // generated before a first batch of 64 sequences is ready
  // Per thread, at most: a program of each family and the rows in work; of a mixture, of all parts.
  std::uint64_t workspace_bytes = 0;
  std::uint64_t endless_bytes = 0;  // what all lanes of an endless pool keep, at most; else 0
};

StreamCost EstimateCost(const ResolvedRecipe& resolved, const FamilyMix& mix);
StreamCost EstimateCost(const ResolvedRecipe& resolved, const MixturePlan& mixture);

// FLOP per token of a mixture at an index.
double MixtureFlops(const MixturePlan& mixture, std::uint64_t index);

// ---- Parts of it, in bytes. All are upper bounds. ----

// A token with its byte of the mask, if there is one.
double TokenBytes(const ResolvedRecipe& resolved);
// The rows of a pool, with their origins.
double PoolStateBytes(const ResolvedRecipe& resolved);
// The rows that one thread works on, without programs.
double RowBytes(const ResolvedRecipe& resolved);
// The rows that `distinct` keeps to compare; 0 without it.
double DistinctBytes(const ResolvedRecipe& resolved);
// What one lane of an endless pool keeps: pools with their pending rows, and the most recent segments.
double EndlessLaneBytes(const ResolvedRecipe& resolved);

}  // namespace iterand
