#include "iterate/check_limits.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "iterate/limits.h"
#include "iterate/provenance.h"
#include "iterate/stream_cost.h"
#include "randnet/block.h"

namespace iterand {
namespace {

// The most memory of one thread that makes segments.
absl::Status CheckWorkspaceBytes(const ResolvedRecipe& resolved, const FamilyMix& mix) {
  const int rows = resolved.max_program_rows();
  double programs = 0;  // one of each family
  for (int i = 0; i < mix.size(); ++i) {
    const double bytes = mix.family(i).program_bytes(rows);
    if (bytes > kMaxProgramBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("families[%d].%s: a program of this size with %d rows needs %.0f bytes; a program may need "
                          "at most %.0f bytes",
                          i, mix.name(i), rows, bytes, kMaxProgramBytes));
    }
    programs += bytes;
    if (programs > kMaxProgramBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("families[%d].%s: with the families before it, programs of %d rows need %.0f bytes; one "
                          "program of each family may need at most %.0f bytes",
                          i, mix.name(i), rows, programs, kMaxProgramBytes));
    }
  }
  const double blocks = RowBytes(resolved);
  const double seen = DistinctBytes(resolved);
  if (programs + blocks + seen > kMaxWorkspaceBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: a thread needs %.0f bytes for the rows that it works on, %.0f for those that distinct compares and %.0f "
        "for programs; it may need at most %.0f together",
        seen > blocks                ? "distinct"
        : resolved.pool() != nullptr ? "pool"
                                     : "chain.rows",
        blocks, seen, programs, kMaxWorkspaceBytes));
  }
  return absl::OkStatus();
}

// The most time of a round, and of the rounds that end a stream whose filters starve.
absl::Status CheckRoundSeconds(const ResolvedRecipe& resolved, const FamilyMix& mix, int i) {
  const v1::Recipe& recipe = resolved.proto();
  const int rows = resolved.max_program_rows();
  const double round = mix.family(i).most_seconds(rows);
  if (round > kMaxRoundSeconds) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "families[%d].%s: a round of %d rows x %d symbols may take %.3g core-seconds; it may take at most %.3g", i,
        mix.name(i), rows, resolved.layout().symbols(), round, kMaxRoundSeconds));
  }
  // A filter may let nothing through, which is known only after starvation_rounds. The default number is allowed in
  // every recipe, a larger one where the rounds are quick.
  const auto starving = static_cast<double>(recipe.starvation_rounds()) * round;
  if ((recipe.has_band() || recipe.distinct()) && recipe.starvation_rounds() > kExemptStarvationRounds &&
      starving > kMaxSegmentSeconds) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "starvation_rounds: is %d, which may take %.3g core-seconds without yielding a row, with families[%d].%s and "
        "rounds of %d rows; they may take at most %.3g, with these rounds: starvation_rounds at most %.0f",
        recipe.starvation_rounds(), starving, i, mix.name(i), rows, kMaxSegmentSeconds,
        std::max<double>(kExemptStarvationRounds, std::floor(kMaxSegmentSeconds / round))));
  }
  return absl::OkStatus();
}

// The most time of a segment without filters.
absl::Status CheckSegmentSeconds(const ResolvedRecipe& resolved, const FamilyMix& mix, int i) {
  const auto sequences = static_cast<double>(resolved.proto().segment_sequences());
  for (const int rows : {resolved.min_program_rows(), resolved.max_program_rows()}) {
    const double rounds =
        resolved.pool() != nullptr ? resolved.pool()->MaxRounds(sequences) : std::ceil(sequences / rows);
    const double segment = rounds * mix.family(i).most_seconds(rows);
    if (segment > kMaxSegmentSeconds) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "segment_sequences: is %d, which may take %.3g core-seconds with families[%d].%s (%.0f rounds of %d rows); a "
          "segment may take at most %.3g",
          resolved.proto().segment_sequences(), segment, i, mix.name(i), rounds, rows, kMaxSegmentSeconds));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStreamBytes(const ResolvedRecipe& resolved) {
  const v1::Recipe& recipe = resolved.proto();
  const double token_bytes = TokenBytes(resolved);
  const auto sequences = static_cast<double>(recipe.segment_sequences());
  const auto lanes = static_cast<double>(recipe.lanes());
  const double tokens = sequences * static_cast<double>(recipe.length()) * token_bytes;
  if (tokens > kMaxSegmentBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "segment_sequences: is %d, which makes segments of %.0f bytes (segment_sequences x length x %.0f bytes); a "
        "segment may have at most %.0f bytes",
        recipe.segment_sequences(), tokens, token_bytes, kMaxSegmentBytes));
  }
  const double segment = tokens + sequences * sizeof(RowProvenance);
  if (segment * lanes > kMaxStreamBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "lanes: is %d, which holds %.0f bytes (lanes x segment of %.0f bytes, which include %d per sequence for its "
        "provenance); a stream may hold at most %.0f bytes",
        recipe.lanes(), segment * lanes, segment, sizeof(RowProvenance), kMaxStreamBytes));
  }
  if (resolved.pool() == nullptr) return absl::OkStatus();
  const double pool = sizeof(Symbol) * static_cast<double>(resolved.pool()->pool_rows) * resolved.layout().symbols();
  if (pool > kMaxPoolBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("pool.pool_rows: is %d, which makes a pool of %.0f bytes; a pool may have at most %.0f bytes",
                        recipe.pool().pool_rows(), pool, kMaxPoolBytes));
  }
  if (!resolved.endless()) return absl::OkStatus();
  const double lane = EndlessLaneBytes(resolved);
  if (lane * lanes > kMaxStreamBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "pool.endless: is true with %d lanes, each of which keeps %.0f bytes (%d pools with their pending rows, and %d "
        "segments); a stream may hold at most %.0f bytes: use fewer pool_rows, fewer lanes, or endless false",
        recipe.lanes(), lane, kMaxSnapshots + kLivePools, kRecentSegments, kMaxStreamBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckWork(const ResolvedRecipe& resolved, const FamilyMix& mix) {
  if (absl::Status s = CheckWorkspaceBytes(resolved, mix); !s.ok()) return s;
  for (int i = 0; i < mix.size(); ++i) {
    if (absl::Status s = CheckRoundSeconds(resolved, mix, i); !s.ok()) return s;
    if (absl::Status s = CheckSegmentSeconds(resolved, mix, i); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace iterand
