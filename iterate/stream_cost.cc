#include "iterate/stream_cost.h"

#include <algorithm>
#include <vector>

#include "iterate/family_mix.h"
#include "iterate/limits.h"
#include "iterate/mixture.h"
#include "iterate/plan.h"
#include "iterate/provenance.h"
#include "iterate/recipe.h"
#include "randnet/block.h"

namespace iterand {
namespace {

constexpr std::uint64_t kFirstBatchSequences = 64;

double SymbolsBytes(const ResolvedRecipe& resolved) {
  return sizeof(Symbol) * static_cast<double>(resolved.layout().symbols());
}

// What does not depend on programs: the sizes of segments and of the first batch.
StreamCost SegmentCost(const ResolvedRecipe& resolved) {
  StreamCost cost;
  const IndexMap map = resolved.index_map();
  const std::uint64_t sequences = map.segment_sequences();
  const auto length = static_cast<std::uint64_t>(resolved.layout().length());
  cost.segment_bytes =
      sequences * length * (DtypeBytes(resolved.dtype()) + (resolved.proto().loss_mask() ? std::uint64_t{1} : 0));
  const std::uint64_t lanes = std::min<std::uint64_t>(kFirstBatchSequences, map.lanes());
  const std::uint64_t per_lane = (kFirstBatchSequences + lanes - 1) / lanes;
  cost.first_batch_sequences = lanes * ((per_lane + sequences - 1) / sequences) * sequences;
  return cost;
}

}  // namespace

double TokenBytes(const ResolvedRecipe& resolved) {
  return static_cast<double>(DtypeBytes(resolved.dtype())) + (resolved.proto().loss_mask() ? 1 : 0);
}

double PoolStateBytes(const ResolvedRecipe& resolved) {
  return static_cast<double>(resolved.pool()->pool_rows) * (SymbolsBytes(resolved) + sizeof(RowOrigin));
}

double RowBytes(const ResolvedRecipe& resolved) {
  if (const PoolSettings* pool = resolved.pool()) {
    // Inputs, prompts and outputs, and the emitted rows.
    const auto rows = static_cast<double>(3 * pool->program_rows + pool->MaxEmitted());
    return PoolStateBytes(resolved) + rows * SymbolsBytes(resolved);
  }
  // Inputs, outputs and prompts, the output of a trial, and the mask.
  const double blocks = resolved.proto().band().has_trial() ? 4 : 3;
  const double symbol = blocks * sizeof(Symbol) + (resolved.proto().loss_mask() ? 1 : 0);
  return symbol * resolved.max_program_rows() * resolved.layout().symbols();
}

double DistinctBytes(const ResolvedRecipe& resolved) {
  if (!resolved.proto().distinct()) return 0;
  // The row as made, and up to four entries of the table.
  const double row = SymbolsBytes(resolved) + 4.0 * sizeof(std::uint32_t);
  return row * static_cast<double>(resolved.proto().segment_sequences());
}

double EndlessLaneBytes(const ResolvedRecipe& resolved) {
  const auto sequences = static_cast<double>(resolved.proto().segment_sequences());
  const double segment = sequences * (resolved.layout().length() * TokenBytes(resolved) + sizeof(RowProvenance));
  // Pending rows wait for the next segment. The last segment leaves fewer of them than a round emits. The vectors in
  // which a segment's rows gather may have twice the capacity that is in use.
  const double pending = SymbolsBytes(resolved) + sizeof(RowOrigin) + sizeof(RowProvenance);
  const auto emitted = static_cast<double>(resolved.pool()->MaxEmitted());
  const double kept = PoolStateBytes(resolved) + emitted * pending;
  return static_cast<double>(kMaxSnapshots + kLivePools) * kept + kLivePools * 2 * (sequences + emitted) * pending +
         static_cast<double>(kRecentSegments) * segment;
}

StreamCost EstimateCost(const ResolvedRecipe& resolved, const FamilyMix& mix) {
  StreamCost cost = SegmentCost(resolved);
  double workspace = RowBytes(resolved) + DistinctBytes(resolved);
  for (int i = 0; i < mix.size(); ++i) {
    cost.flops_per_token += mix.share(i) * mix.family(i).flops_per_token();
    workspace += mix.family(i).program_bytes(resolved.max_program_rows());
  }
  const SequenceLayout& layout = resolved.layout();
  cost.flops_per_token *= static_cast<double>(layout.symbols()) / layout.length();
  if (resolved.pool() != nullptr) cost.flops_per_token *= resolved.pool()->RowsPerEmitted();
  cost.workspace_bytes = static_cast<std::uint64_t>(workspace);
  if (resolved.endless()) {
    cost.endless_bytes = resolved.index_map().lanes() * static_cast<std::uint64_t>(EndlessLaneBytes(resolved));
  }
  return cost;
}

double MixtureFlops(const MixturePlan& mixture, std::uint64_t index) {
  std::vector<double> shares;
  mixture.Shares(index, shares);
  double flops = 0;
  for (int i = 0; i < mixture.size(); ++i) {
    flops += shares[static_cast<std::size_t>(i)] * mixture.part(i).cost().flops_per_token;
  }
  return flops;
}

StreamCost EstimateCost(const ResolvedRecipe& resolved, const MixturePlan& mixture) {
  StreamCost cost = SegmentCost(resolved);
  cost.flops_per_token = MixtureFlops(mixture, 0);
  cost.workspace_bytes = mixture.workspace_bytes();
  return cost;
}

}  // namespace iterand
